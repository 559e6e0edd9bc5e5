"""The mind of an NPC: it notices, answers by the table, and whiles away the time."""

from __future__ import annotations

from worldsim_envs.encounter.bodies import faces, go_on, move
from worldsim_envs.encounter.rules import (
    ANSWERS,
    BRAWL_BLOWS,
    BRAWL_GAP,
    CHANCE_NOW,
    FLEE_PX,
    FRAMES,
    IDLE,
    LOOK_CHANCE,
    MOOD_FRAMES,
    NEAREST,
    REACH,
    STEP_BACK_PX,
    WALK_PX,
    WARM,
)
from worldsim_envs.encounter.scene import Figure, Reaction, Scene

APPROACH = {age for blow in BRAWL_BLOWS for age in range(blow - 4, blow)}
"""Frames of a brawl in which it closes in."""


def think(scene: Scene, npc: Figure, gesture: str | None) -> None:
    """Change one NPC by one frame. gesture: what the player begins in this frame, if anything."""
    _calm_down(npc)
    npc.noticed_age += 1
    if gesture is not None and _notices(scene.figures[0], npc, gesture):
        npc.noticed, npc.noticed_age = gesture, 0
    if npc.noticed is not None and scene.dice() < CHANCE_NOW.get(npc.noticed_age, 0):
        _answer(scene, npc)
    elif npc.act in FRAMES and npc.age + 1 < FRAMES[npc.act]:
        npc.age += 1
    else:
        _while_away(scene, npc)
    _travel(scene, npc)


def _calm_down(npc: Figure) -> None:
    npc.mood_left = max(0, npc.mood_left - 1)
    if not npc.mood_left:
        npc.mood = "calm"


def _notices(player: Figure, npc: Figure, gesture: str) -> bool:
    if abs(npc.x - player.x) > REACH[gesture] or not faces(player, npc):
        return False
    return npc.act in IDLE or (gesture == "strike" and npc.act != "fall")


def _answer(scene: Scene, npc: Figure) -> None:
    """Change an NPC to the first frame of its answer to what it noticed."""
    player, gesture = scene.figures[0], npc.noticed
    reaction, mood = ANSWERS[npc.temperament, npc.mood][gesture]
    begun = scene.frame - npc.noticed_age
    told = Reaction(scene.figures.index(npc) - 1, reaction, gesture, begun, scene.frame, npc.temperament, npc.mood)
    scene.reactions += (told,)
    scene.reward += reaction in WARM
    if player.act == "give" and reaction in WARM:
        player.act = "given"
    npc.noticed = None
    npc.facing = 1 if player.x > npc.x else -1
    npc.begin(reaction)
    if mood is not None:
        npc.mood, npc.mood_left = mood, 0 if mood == "calm" else MOOD_FRAMES


def _while_away(scene: Scene, npc: Figure) -> None:
    """Change an NPC that nothing happens to: it goes back to its place, else it stands and now and then looks about."""
    way = (npc.home > npc.x) - (npc.home < npc.x)
    in_the_way = any(0 < (other.x - npc.x) * way <= NEAREST for other in scene.figures)
    if way and not in_the_way:
        npc.facing = way
        go_on(npc, "walk")
        move(scene, npc, way * min(WALK_PX, abs(npc.home - npc.x)))
        return
    npc.facing = 1 if scene.figures[0].x > npc.x else -1
    if npc.act == "stand" and npc.noticed is None and scene.dice() < LOOK_CHANCE:
        npc.begin("look")
    else:
        go_on(npc, "stand")


def _travel(scene: Scene, npc: Figure) -> None:
    """Change the place of an NPC whose answer moves it. It faces the player, or did when the answer began."""
    if npc.act == "step_back":
        move(scene, npc, -npc.facing * STEP_BACK_PX)
    elif npc.act == "flee":
        move(scene, npc, -npc.facing * FLEE_PX)
    elif npc.act == "brawl" and npc.age in APPROACH:
        gap = (scene.figures[0].x - npc.x) * npc.facing - BRAWL_GAP
        if gap > 0:
            move(scene, npc, npc.facing * min(WALK_PX, gap))
