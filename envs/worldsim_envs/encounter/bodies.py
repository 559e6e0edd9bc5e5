"""What figures do with their bodies: walk, make gestures, strike and fall."""

from __future__ import annotations

from worldsim_envs.encounter.rules import (
    BLOW,
    BRAWL_BLOWS,
    FRAMES,
    LEFT_EDGE,
    NEAREST,
    REACH,
    RIGHT_EDGE,
    WALK_PX,
)
from worldsim_envs.encounter.scene import Figure, Intent, Scene


def follow(scene: Scene, figure: Figure, intent: Intent) -> bool:
    """Change a figure by one frame as it is told; returns whether a gesture begins in it."""
    if figure.act in FRAMES and figure.age + 1 < FRAMES[figure.act]:
        figure.age += 1
        return False
    if intent.gesture == "guard":
        go_on(figure, "guard")
    elif intent.gesture is not None:
        figure.begin(intent.gesture)
        return True
    elif intent.walk:
        figure.facing = intent.walk
        go_on(figure, "walk")
        move(scene, figure, intent.walk * WALK_PX)
    else:
        go_on(figure, "stand")
    return False


def go_on(figure: Figure, act: str) -> None:
    """Change a figure by one more frame of an act that has no end of its own."""
    if figure.act == act:
        figure.age += 1
    else:
        figure.begin(act)


def move(scene: Scene, figure: Figure, pixels: int) -> None:
    """Change a figure's place by so many pixels or as far as edges and other figures let it."""
    way = 1 if pixels > 0 else -1
    free = abs(pixels)
    for other in scene.figures:
        ahead = (other.x - figure.x) * way
        if other is not figure and ahead > 0:
            free = min(free, max(0, ahead - NEAREST))
    figure.x = min(max(figure.x + way * free, LEFT_EDGE), RIGHT_EDGE)


def faces(figure: Figure, other: Figure) -> bool:
    """Whether the other one is in front."""
    return (other.x - figure.x) * figure.facing > 0


def land_blows(scene: Scene) -> None:
    """Change the scene by the blows of this frame: who can be felled and is in reach falls, unless it guards."""
    sparks, felled = [], []
    for figure in scene.figures:
        if (figure.act, figure.age) != ("strike", BLOW) and not (figure.act == "brawl" and figure.age in BRAWL_BLOWS):
            continue
        for other in scene.figures:
            near = abs(other.x - figure.x) <= REACH["strike"]
            if other is not figure and near and faces(figure, other) and other.act != "fall":
                sparks.append((figure.x + other.x) // 2)
                if _can_be_felled(scene, other) and not (other.act == "guard" and faces(other, figure)):
                    felled.append(other)
    for figure in felled:
        figure.begin("fall")
        scene.reward -= figure is scene.figures[0]
    scene.sparks = tuple(sparks)


def _can_be_felled(scene: Scene, figure: Figure) -> bool:
    return figure.driven or figure is scene.figures[0]
