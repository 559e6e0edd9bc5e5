"""The game Encounter without gymnasium: a scene, its steps, and the meaning of an action vector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worldsim.action import HELD, ActionSpec, Channel
from worldsim.names import did_you_mean
from worldsim_envs.encounter.bodies import follow, land_blows
from worldsim_envs.encounter.minds import think
from worldsim_envs.encounter.rules import BUTTONS, GESTURES, TEMPERAMENTS
from worldsim_envs.encounter.scene import LOOKS, PLACES, PLAYER_LOOK, Figure, Intent, Scene

SLOTS = ("npc", "npc2")
HOMES = (46, 12)
"""Columns of the NPCs' places, or their mirror images: fixed, so that who watches knows where one goes back to."""
PLAYER_KEYS = {
    **{"left": ("left", "a"), "right": ("right", "d"), "wave": ("up", "w"), "bow": ("down", "s")},
    **{"give": ("e",), "threaten": ("q",), "strike": ("space",), "guard": ("c", "left shift")},
}


def action_spec(npcs: int = 1) -> ActionSpec:
    """The channels: the player's 8 buttons, then for each NPC 4 temperaments, `driven` and 8 buttons of its own.

    For NPC slots "npc" and "npc2" these are npc_friendly .. npc_hostile (the condition: one of them is 1),
    npc_driven (1: no mind; the buttons npc_left .. npc_guard move it). Where none of the five is held, the slot stays
    as it was. The action is the vector itself, so several buttons can be held at once.
    """
    names = list(BUTTONS)
    for slot in SLOTS[:npcs]:
        names += [f"{slot}_{name}" for name in (*TEMPERAMENTS, "driven", *BUTTONS)]
    minds = {slot: (*TEMPERAMENTS, "driven") for slot in SLOTS[:npcs]}
    return ActionSpec([Channel(name) for name in names], keys=PLAYER_KEYS, conditions=minds)


def new_scene(rng: np.random.Generator, temperaments: Sequence[str]) -> Scene:
    """A scene with one NPC for each temperament; everything else, looks and side and place and dice, is drawn."""
    for name in temperaments:
        check_temperament(name)
    looks = rng.permutation(LOOKS)
    right = bool(rng.integers(2))
    homes = HOMES[: len(temperaments)]
    start = rng.integers(8, 25) if len(temperaments) == 1 else rng.integers(29, 36)
    start, *homes = (int(x if right else 63 - x) for x in (start, *homes))
    player = Figure(start, 1 if right else -1, PLAYER_LOOK)
    people = zip(homes, looks, temperaments, strict=False)
    npcs = [Figure(x, 1 if start > x else -1, int(look), x, temperament=name) for x, look, name in people]
    return Scene([player, *npcs], place=int(rng.integers(PLACES)), luck=int(rng.integers(1 << 63)))


def advance(scene: Scene, player: Intent, *npcs: Intent | None) -> None:
    """Change the scene by one frame. npcs: for each NPC what drives it, or None where its own mind does.

    Two players: `advance(scene, mine, yours)`.
    """
    scene.frame += 1
    scene.reactions, scene.reward = (), 0.0
    begins = player.gesture if follow(scene, scene.figures[0], player) else None
    for npc, intent in zip(scene.figures[1:], npcs, strict=True):
        npc.driven = intent is not None
        if intent is None:
            think(scene, npc, begins)
        else:
            npc.noticed, npc.mood, npc.mood_left = None, "calm", 0
            follow(scene, npc, intent)
    land_blows(scene)


def play_vector(scene: Scene, vector: np.ndarray) -> None:
    """Change the scene by one frame under an action vector (A,) as `action_spec` names its entries."""
    held = [value >= HELD for value in vector.tolist()]
    player, first = intent(held[: len(BUTTONS)]), len(BUTTONS)
    drives: list[Intent | None] = []
    for npc in scene.figures[1:]:
        condition = held[first : first + 5]
        buttons = held[first + 5 : first + 5 + len(BUTTONS)]
        first += 5 + len(BUTTONS)
        if any(condition):
            npc.driven = condition[4]
            npc.temperament = TEMPERAMENTS[condition.index(True)] if any(condition[:4]) else npc.temperament
        drives.append(intent(buttons) if npc.driven else None)
    advance(scene, player, *drives)


def intent(held: Sequence[bool]) -> Intent:
    """What 8 buttons mean together, in the order of `BUTTONS`: left and right cancel, the first gesture is made."""
    gesture = next((name for name, down in zip(GESTURES, held[2:], strict=True) if down), None)
    return Intent(int(held[1]) - int(held[0]), gesture)


def check_no_steps(steps: int | None) -> None:
    """ValueError in one line where denoising steps are asked of the source game."""
    if steps is not None:
        raise ValueError(f"steps={steps!r}; the source game has no network, so leave it out or name a world")


def check_temperament(name: str) -> None:
    """ValueError in one line, with the nearest name, for a temperament that there is not."""
    if name not in TEMPERAMENTS:
        hint = did_you_mean(name, TEMPERAMENTS)
        raise ValueError(f"unknown temperament {name!r}; {hint}there is {', '.join(TEMPERAMENTS)}")
