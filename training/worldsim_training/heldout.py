"""Held-out episodes of a source game, recorded on the spot for an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from worldsim_envs.games import Game
from worldsim_training.collect import record_episode
from worldsim_training.episodes import SPLITS, Episode

TAIL_STEPS = 8
"""Last steps of an episode that no window enters."""


@dataclass(frozen=True)
class Moment:
    """A point in a held-out episode: the frame of that number is on the screen."""

    episode: int
    frame: int


@dataclass(frozen=True)
class HeldOut:
    """Whole episodes, the policy that played each, and save states of the real game at some of their frames."""

    episodes: Sequence[Episode]
    policies: Sequence[str]
    saved: Sequence[Mapping[int, Any]]

    def context(self, moments: Sequence[Moment], frames: int) -> tuple[np.ndarray, np.ndarray]:
        """The past up to each moment: frames (n, K, H, W, 3) uint8 and the K - 1 native actions between them."""
        spans = [(self.episodes[m.episode], m.frame - frames + 1, m.frame) for m in moments]
        return (
            np.stack([episode.frames[first : last + 1] for episode, first, last in spans]),
            np.stack([episode.actions[first:last] for episode, first, last in spans]),
        )

    def future(self, moments: Sequence[Moment], steps: int) -> tuple[np.ndarray, np.ndarray]:
        """What followed each moment: frames (n, T, H, W, 3) uint8 and the native action that led into each."""
        spans = [(self.episodes[m.episode], m.frame) for m in moments]
        return (
            np.stack([episode.frames[now + 1 : now + 1 + steps] for episode, now in spans]),
            np.stack([episode.actions[now : now + steps] for episode, now in spans]),
        )

    def resume(self, game: Game, moment: Moment) -> None:
        """Change the game to the moment: the last state that was kept before it, then the recorded actions."""
        saved = self.saved[moment.episode]
        kept = max(frame for frame in saved if frame <= moment.frame)
        game.restore(saved[kept])
        for action in self.episodes[moment.episode].actions[kept : moment.frame]:
            game.step(action)

    def moments(self, count: int, *, past: int, future: int, rng: np.random.Generator) -> list[Moment]:
        """Random moments, with `past` frames up to them and `future` steps after them, as evenly from all episodes as
        their lengths allow.

        No moment twice, and no window into an episode's last 8 steps. ValueError where there are fewer.
        """
        rooms = [np.arange(past - 1, len(episode.actions) - TAIL_STEPS - future + 1) for episode in self.episodes]
        drawn = [rng.permutation(free) for free in rooms]
        turns = sorted((turn, i, int(frame)) for i, free in enumerate(drawn) for turn, frame in enumerate(free))
        if len(turns) < count:
            lengths = [len(episode.actions) for episode in self.episodes]
            seen = f"{len(lengths)} held-out episodes of {min(lengths)} to {max(lengths)} steps"
            raise ValueError(f"{seen} have {len(turns)} windows of {past} frames and {future} steps; needed: {count}")
        return [Moment(i, frame) for _, i, frame in turns[:count]]

    def room(self, count: int, *, past: int) -> int:
        """The most steps after a moment for which `moments` takes as many from every episode; negative where none."""
        shares = [len(range(i, count, len(self.episodes))) for i in range(len(self.episodes))]
        rooms = (len(each.actions) - share for each, share in zip(self.episodes, shares, strict=True))
        return min(rooms) - past - TAIL_STEPS + 2

    def thirds(self) -> list[list[int]]:
        """The episodes dealt into three, every policy in each."""
        turns, count = len({*self.policies}), len(self.episodes)
        shift = int(turns % 3 == 0)  # three policies that take turns would have a third each
        return [[i for i in range(count) if (i + shift * (i // turns)) % 3 == third] for third in range(3)]

    def cut(self, episodes: Sequence[int], steps: int) -> Iterator[np.ndarray]:
        """Real rollouts (T, H, W, 3) uint8: these episodes, cut into stretches of `steps` frames."""
        for i in episodes:
            frames = self.episodes[i].frames
            yield from (frames[first : first + steps] for first in range(0, len(frames) - steps + 1, steps))


def record_heldout(
    game: Game,
    *,
    split: str,
    seed: int,
    episodes: int,
    max_steps: int,
    save_every: int,
    least_steps: int = 0,
    progress: Callable[[int], object] = lambda steps: None,
) -> HeldOut:
    """Record episodes 0, 1, ... of a held-out split, each to its end or `max_steps`; `progress` is told its steps.

    Where so many episodes hold less than `least_steps` together, more follow.

    The seeds are those of `collect`, (seed, split, index), so no episode of a training split is among them; the game's
    policies take turns. Before every `save_every`-th step the game's state is kept.
    """
    if split not in SPLITS[1:]:
        raise ValueError(f"unknown split {split!r}; a held-out one is {' or '.join(SPLITS[1:])}")
    names = list(game.policies())
    policies, recorded, saved, steps = [], [], [], 0
    while len(recorded) < episodes or steps < least_steps:
        index, recorder = len(recorded), _Saving(game, save_every)
        policies.append(names[index % len(names)])
        recorded.append(record_episode(recorder, policies[-1], (seed, SPLITS.index(split), index), max_steps))
        saved.append(recorder.saved)
        steps += len(recorded[-1].actions)
        progress(len(recorded[-1].actions))
    return HeldOut(recorded, policies, saved)


class _Saving:
    """A game that also keeps its state before every n-th step, by the number of the frame then shown."""

    def __init__(self, game: Game, every: int) -> None:
        self._game, self._every, self._steps = game, every, 0
        self.saved: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._game, name)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool]:
        if self._steps % self._every == 0:
            self.saved[self._steps] = self._game.save()
        self._steps += 1
        return self._game.step(action)
