"""Policies that need nothing of a game but its action space."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from worldsim.action import ActionSpec
from worldsim_envs.games.base import FramePolicy, FramePolicyFactory, Game, Policy, PolicyFactory

HOLD_STEPS = (1, 8)
STRETCH_STEPS = (20, 80)


class HeldRandom:
    """Uniformly random native actions, each held for 1 to 8 steps."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.left = 0
        self.action: int | np.ndarray = 0

    def __call__(self, game: Game) -> int | np.ndarray:
        if self.left == 0:
            self.action = _any_action(game.actions, self.rng)
            self.left = int(self.rng.integers(*HOLD_STEPS, endpoint=True))
        self.left -= 1
        return self.action


class Switching:
    """Several policies that take turns in random order, each for a stretch of 20 to 80 steps."""

    def __init__(self, rng: np.random.Generator, factories: Sequence[PolicyFactory]) -> None:
        self.rng = rng
        self.policies: list[Policy] = [factory(rng) for factory in factories]
        self.left = 0
        self.current = self.policies[0]

    def __call__(self, game: Game) -> Any:
        if self.left == 0:
            self.current = self.policies[self.rng.integers(len(self.policies))]
            self.left = int(self.rng.integers(*STRETCH_STEPS, endpoint=True))
        self.left -= 1
        return self.current(game)


def blind_policies(actions: ActionSpec) -> dict[str, FramePolicyFactory]:
    """Frame policies that look at no frame: "random", which holds each action for 1 to 8 steps, and each of the native
    actions held throughout, where those are counted."""

    def random(rng: np.random.Generator) -> FramePolicy:
        policy = HeldRandom(rng)
        return lambda frame: policy(SimpleNamespace(actions=actions))

    count = 0 if actions.table is None else len(actions.table)
    names = actions.names or tuple(map(str, range(count)))
    return {"random": random} | {f"hold {names[i]}": _held(i) for i in range(count)}


def _held(action: int) -> FramePolicyFactory:
    return lambda rng: lambda frame: action


def _any_action(actions: ActionSpec, rng: np.random.Generator) -> int | np.ndarray:
    """An index for Discrete; for Box a vector (A,) float32 of axes in [-1, 1] and buttons 0 or 1.

    A pedal is at rest half of the time.
    """
    if actions.table is not None:
        return int(rng.integers(len(actions.table)))
    values = rng.uniform(-1.0, 1.0, actions.size)
    kinds = np.array([channel.kind for channel in actions.channels])
    pressed = np.where(kinds == "button", values > 0, np.clip(values, 0.0, 1.0))
    return np.where(kinds == "axis", values, pressed).astype(np.float32)
