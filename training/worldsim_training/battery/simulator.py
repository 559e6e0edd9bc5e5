"""The one face that the battery knows of a simulator, and the two honest ones: a world, and the real game itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from worldsim.world_model import WorldModel
from worldsim_envs.games import Game
from worldsim_training import imagine
from worldsim_training.heldout import HeldOut, Moment
from worldsim_training.imagine import Played


@dataclass(frozen=True)
class Past:
    """B held-out pasts: frames (B, K, H, W, 3) uint8, the K-1 native actions between them, and where they end."""

    frames: np.ndarray
    actions: np.ndarray
    moments: Sequence[Moment]

    @classmethod
    def of(cls, heldout: HeldOut, moments: Sequence[Moment], frames: int) -> Past:
        """The last `frames` frames up to each moment."""
        return cls(*heldout.context(moments, frames), moments)


class Simulator(Protocol):
    """Anything that plays a game on from a past."""

    def play(self, past: Past, actions: np.ndarray, seeds: np.ndarray) -> Played:
        """N futures of T steps from each of B pasts: native actions (B, N, T[, A]) -> (B, N, T, ...) of everything.

        seeds: (B,) int, the chance of each past, the same for its N futures. The same arguments give the same bytes.
        """


@dataclass(frozen=True)
class WorldSimulator:
    """A world, played with one number of denoising steps."""

    model: WorldModel
    settings: imagine.Settings

    def play(self, past: Past, actions: np.ndarray, seeds: np.ndarray) -> Played:
        def work(part: slice, settings: imagine.Settings) -> Played:
            state = imagine.begin(self.model, past.frames[part], past.actions[part], seeds[part])
            futures = np.moveaxis(actions[part], 1, 0)
            return join(
                [imagine.play_outcomes(self.model, state.clone(), one, settings) for one in futures], np.stack, axis=1
            )

        return join(imagine.in_batches(len(actions), self.settings, work), np.concatenate, axis=0)


class RealSimulator:
    """The real game, resumed at each moment: what a perfect simulator would show.

    other_luck: draw the luck of each past anew from its seed; then it is what a perfect simulator with dice of its own
    would show. After the game's end the last frame stays, with no reward.
    """

    def __init__(
        self,
        game: Game,
        heldout: HeldOut,
        *,
        other_luck: bool = False,
        progress: Callable[[int], object] = lambda steps: None,
    ) -> None:
        self.game, self.heldout, self.other_luck, self.progress = game, heldout, other_luck, progress

    def play(self, past: Past, actions: np.ndarray, seeds: np.ndarray) -> Played:
        return self.play_with_states(past, actions, seeds)[0]

    def play_with_states(self, past: Past, actions: np.ndarray, seeds: np.ndarray) -> tuple[Played, np.ndarray | None]:
        """`play`, and the game's own state after each step, (B, N, T, S) float64; None where it tells none."""
        rows = [self._row(moment, *each) for moment, *each in zip(past.moments, actions, seeds, strict=True)]
        played, states = zip(*rows, strict=True)
        return join(played, np.stack, axis=0), None if states[0] is None else np.stack(states)

    def _row(self, moment: Moment, futures: np.ndarray, seed: int) -> tuple[Played, np.ndarray | None]:
        self.heldout.resume(self.game, moment)
        if self.other_luck:
            self.game.reroll(np.random.default_rng(seed))
        start = self.game.save()
        branches, states = zip(*(self._branch(start, future) for future in futures), strict=True)
        return join(branches, np.stack, axis=0), None if states[0] is None else np.stack(states)

    def _branch(self, start: object, actions: np.ndarray) -> tuple[Played, np.ndarray | None]:
        frame, reward, ended, state = self.game.restore(start), 0.0, False, self.game.visible_state()
        steps = []
        for action in actions:
            if ended:
                reward = 0.0
            else:
                frame, reward, ended = self.game.step(action)
                state = self.game.visible_state()
            steps.append((frame, np.float32(reward), ended, state))
        self.progress(len(actions))
        *shown, states = zip(*steps, strict=True)
        return Played(*map(np.stack, shown)), None if state is None else np.stack(states)


def join(played: Sequence[Played], how: Callable, *, axis: int) -> Played:
    """Several as one: `how` is np.stack or np.concatenate."""
    return Played(*(how([getattr(one, name) for one in played], axis=axis) for name in ("frames", "rewards", "ended")))
