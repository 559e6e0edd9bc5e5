"""Boxers that see the ring in a frame and nowhere else, of many strengths, for the real and the imagined game alike."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from worldsim_envs.games.base import FramePolicy, FramePolicyFactory, Policy, PolicyFactory
from worldsim_envs.games.boxing import SIZE, Boxing, Ring
from worldsim_envs.games.boxing_policies import Fighter, Runner
from worldsim_envs.games.policies import HeldRandom

HELD = ("NOOP", "FIRE", "UPLEFT", "DOWNRIGHTFIRE")


class SeenRing:
    """What the policies ask of a game, read from the last frame; a boxer that is not to be seen is where it was."""

    actions = Boxing.actions

    def __init__(self) -> None:
        self._player, self._opponent = (SIZE / 4, SIZE / 2), (3 * SIZE / 4, SIZE / 2)

    def look(self, frame: np.ndarray) -> None:
        """Change to what a frame (64, 64, 3) uint8 shows."""
        self._player = Boxing.player_xy(frame) or self._player
        self._opponent = Boxing.opponent_xy(frame) or self._opponent

    def ring(self) -> Ring:
        """Both boxers; the scores, which no policy here reads, are 0."""
        return Ring(self._player, self._opponent, 0, 0)


class Steady(Fighter):
    """A fighter of a given caution, the share of its time in which it steps back, and distance from head to head."""

    def __init__(self, rng: np.random.Generator, caution: float, gap_x: float | None = None) -> None:
        super().__init__(rng)
        self.caution, self.fixed_gap_x = caution, gap_x

    def _decide(self) -> None:
        super()._decide()
        if self.fixed_gap_x is not None:
            self.gap_x = self.fixed_gap_x


class Coward:
    """Walks away from the opponent and never punches."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def __call__(self, game: SeenRing) -> int:
        away = np.sign(np.subtract(game.ring().player, game.ring().opponent))
        held = {"left": away[0] < 0, "right": away[0] > 0, "up": away[1] < 0, "down": away[1] > 0}
        return game.actions.decode(game.actions.vector(**held))


class Distracted:
    """A policy in whose place random play decides, for a share of the stretches of 1 to 8 steps."""

    def __init__(self, rng: np.random.Generator, policy: Policy, share: float) -> None:
        self.rng, self.policy, self.share = rng, policy, share
        self.random, self.away = HeldRandom(rng), False

    def __call__(self, game: SeenRing) -> int:
        if self.random.left == 0:
            self.away = bool(self.rng.random() < self.share)
        wild, sound = self.random(game), self.policy(game)
        return wild if self.away else sound


def frame_policies() -> Mapping[str, FramePolicyFactory]:
    """18 of them, from those that never score to those that win."""
    named: dict[str, PolicyFactory] = {
        "random": HeldRandom,
        "coward": Coward,
        "runner": Runner,
        "fighter": Fighter,
    }
    named |= {f"steady {share}": _steady(share) for share in (0.0, 0.3, 0.6, 0.9)}
    named |= {f"distant {gap:g}": _steady(0.0, gap) for gap in (14.0, 16.0, 22.0)}
    named |= {f"distracted {share}": _distracted(share) for share in (0.25, 0.5, 0.75)}
    named |= {f"hold {name}": _held(Boxing.actions.names.index(name)) for name in HELD}
    return {name: _seeing(factory) for name, factory in named.items()}


def _seeing(factory: PolicyFactory) -> FramePolicyFactory:
    def make(rng: np.random.Generator) -> FramePolicy:
        seen, policy = SeenRing(), factory(rng)

        def act(frame: np.ndarray) -> int:
            seen.look(frame)
            return int(policy(seen))

        return act

    return make


def _steady(caution: float, gap_x: float | None = None) -> PolicyFactory:
    return lambda rng: Steady(rng, caution, gap_x)


def _distracted(share: float) -> PolicyFactory:
    return lambda rng: Distracted(rng, Steady(rng, 0.0), share)


def _held(action: int) -> PolicyFactory:
    return lambda rng: lambda game: action
