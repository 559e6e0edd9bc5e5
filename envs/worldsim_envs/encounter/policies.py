"""Policies for recording Encounter, so that every gesture meets every temperament in every mood."""

from __future__ import annotations

import numpy as np

from worldsim_envs.encounter.game import SLOTS
from worldsim_envs.encounter.rules import BUTTONS, GESTURES, IDLE, NEAREST, REACH, TEMPERAMENTS
from worldsim_envs.encounter.scene import Figure
from worldsim_envs.games.base import Game

CHANGE_CHANCE, MOODY_CHANGE_CHANCE = 0.003, 0.03
"""Of a new temperament for an NPC in each frame, calm or in a mood, so that all moods come with all temperaments."""
AWAITED_CHANGE_CHANCE = 0.12
"""The same in each frame between a gesture and its answer: who the NPC has just become decides, not who it was."""
GESTURE_CHANCES = (0.16, 0.16, 0.18, 0.16, 0.22, 0.12)
"""Of each of `GESTURES`. Strikes more often: they lead to the moods, and are answered only from near."""


class Conditions:
    """The temperament of each NPC: drawn evenly, changed now and then, most often while an answer is awaited."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.names: list[str] = []

    def __call__(self, npcs: list[Figure]) -> dict[str, float]:
        """The condition channels of this frame."""
        if not self.names:
            self.names = [str(name) for name in self.rng.choice(TEMPERAMENTS, len(npcs))]
        for slot, npc in enumerate(npcs):
            if self.rng.random() < _change_chance(npc):
                self.names[slot] = str(self.rng.choice(TEMPERAMENTS))
        return {f"{slot}_{name}": 1.0 for slot, name in zip(SLOTS, self.names, strict=False)}


class HeldButtons:
    """Random buttons of one figure, each held for 1 to 8 frames, now and then two at once; half the walks lead near."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.left = 0
        self.held: tuple[str, ...] = ()

    def __call__(self, me: Figure, other: Figure) -> tuple[str, ...]:
        """Buttons that are held in this frame."""
        if not self.left:
            self.held = self._draw(me, other)
            self.left = int(self.rng.integers(1, 8, endpoint=True))
        self.left -= 1
        return self.held

    def _draw(self, me: Figure, other: Figure) -> tuple[str, ...]:
        kind = self.rng.random()
        if kind < 0.25:
            return ()
        if kind < 0.55:
            return (towards(me, other) if self.rng.random() < 0.6 else str(self.rng.choice(BUTTONS[:2])),)
        if kind < 0.9:
            return (str(self.rng.choice(GESTURES)),)
        return tuple(str(name) for name in self.rng.choice(BUTTONS, 2, replace=False))


class Visit:
    """The buttons of a visitor: walks up to somebody, makes a gesture, waits for what comes, sometimes walks off.

    From how far it does so is drawn: one time in eight from too far for an answer.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.waits = int(rng.integers(0, 20))
        self.target = 0
        self._plan(1)

    def __call__(self, me: Figure, others: list[Figure]) -> tuple[str, ...]:
        """Buttons that are held in this frame."""
        other = others[self.target]
        if other.act == "brawl" and self.guards:
            return ("guard",) if self._faces(me, other) else (towards(me, other),)
        if self.waits:
            self.waits -= 1
            return () if not self.strolls else (self.strolls,)
        if not self._faces(me, other) or abs(other.x - me.x) > self.gap:
            self.patience -= 1
            if self.patience > 0:
                return (towards(me, other),)
        if self.patience > 0 and self.gesture != "strike" and other.act not in IDLE and self.rng.random() < 0.9:
            self.patience -= 1
            return ()
        gesture = self.gesture
        self._plan(len(others))
        return (gesture,)

    def _plan(self, others: int) -> None:
        """Draw what comes next: to whom, what, from how far, and how long to wait or stroll before."""
        rng = self.rng
        self.target = int(rng.integers(others))
        self.gesture = str(rng.choice(GESTURES, p=GESTURE_CHANCES))
        reach = REACH.get(self.gesture, 30)
        far = rng.random() < 0.125
        self.gap = float(rng.uniform(reach + 2, reach + 12) if far else rng.uniform(NEAREST + 2, reach))
        self.waits = int(rng.integers(8, 24)) if rng.random() < 0.85 else int(rng.integers(24, 60))
        self.strolls = str(rng.choice(BUTTONS[:2])) if rng.random() < 0.15 else None
        self.guards = rng.random() < 0.5
        self.patience = 60  # frames; then it makes the gesture wherever it stands

    def _faces(self, me: Figure, other: Figure) -> bool:
        return (other.x - me.x) * me.facing > 0


class Visitor:
    """A visitor; each NPC minds itself."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.conditions, self.visit = Conditions(rng), Visit(rng)

    def __call__(self, game: Game) -> np.ndarray:
        player, *npcs = game.scene.figures
        held = self.visit(player, npcs)
        return game.actions.vector(**self.conditions(npcs), **dict.fromkeys(held, 1.0))


class Masher:
    """Random held buttons; each NPC minds itself."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.conditions, self.buttons = Conditions(rng), HeldButtons(rng)

    def __call__(self, game: Game) -> np.ndarray:
        player, *npcs = game.scene.figures
        held = self.buttons(player, npcs[0])
        return game.actions.vector(**self.conditions(npcs), **dict.fromkeys(held, 1.0))


class Duet:
    """A visitor among NPCs that are driven, by random held buttons or as visitors of the player in their turn.

    Each slot gets its mind back for some stretches of the episode, so that both can be seen to follow each other.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.conditions, self.visit = Conditions(rng), Visit(rng)
        self.drivers: list[HeldButtons | Visit] = []
        self.minded = [False, False]

    def __call__(self, game: Game) -> np.ndarray:
        player, *npcs = game.scene.figures
        values = dict.fromkeys(self.visit(player, npcs), 1.0)
        conditions = self.conditions(npcs)
        for i, (slot, npc, condition) in enumerate(zip(SLOTS, npcs, conditions, strict=False)):
            self.minded[i] ^= self.rng.random() < 0.01
            if self.minded[i]:
                values[condition] = 1.0
            else:
                values[f"{slot}_driven"] = 1.0
                values |= dict.fromkeys((f"{slot}_{name}" for name in self._drive(i, npc, player)), 1.0)
        return game.actions.vector(**values)

    def _drive(self, i: int, npc: Figure, player: Figure) -> tuple[str, ...]:
        while len(self.drivers) <= i:
            kind = HeldButtons if self.rng.random() < 0.5 else Visit
            self.drivers.append(kind(self.rng))
        driver = self.drivers[i]
        return driver(npc, [player]) if isinstance(driver, Visit) else driver(npc, player)


def _change_chance(npc: Figure) -> float:
    if npc.noticed is not None:
        return AWAITED_CHANGE_CHANCE
    return CHANGE_CHANCE if npc.mood == "calm" else MOODY_CHANGE_CHANCE


def towards(me: Figure, other: Figure) -> str:
    """The button that walks to somebody."""
    return "right" if other.x > me.x else "left"
