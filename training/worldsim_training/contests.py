"""Policies at play from the same real moments, in the real game and in the imagined one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from worldsim.world_model import WorldModel
from worldsim_envs.games import Game
from worldsim_envs.games.base import FramePolicyFactory
from worldsim_envs.games.past import random_past
from worldsim_envs.pixel_policy import PixelPolicy, PolicyPlayer
from worldsim_envs.real import plain
from worldsim_training import imagine

MOST_LOST = 100
"""Episodes of random play in a row that may end before a start is reached."""
Act = Callable[[np.ndarray], np.ndarray]
"""Native actions (B,) for the present frames (B, H, W, 3) uint8 of B games."""


class Contestant(Protocol):
    """A policy that begins to play B games.

    past: (B, K, H, W, 3) uint8, the frames before the present one; rngs: one a game.
    """

    def begin(self, past: np.ndarray, rngs: Sequence[np.random.Generator]) -> Act: ...


@dataclass(frozen=True)
class Scripted:
    """A policy that sees one frame at a time."""

    factory: FramePolicyFactory

    def begin(self, past: np.ndarray, rngs: Sequence[np.random.Generator]) -> Act:
        policies = [self.factory(rng) for rng in rngs]
        return lambda frames: np.array([policy(frame) for policy, frame in zip(policies, frames, strict=True)])


@dataclass(frozen=True)
class Trained:
    """A network that sees its last frames."""

    policy: PixelPolicy

    def begin(self, past: np.ndarray, rngs: Sequence[np.random.Generator]) -> Act:
        return PolicyPlayer(self.policy, rngs[0], past)


@dataclass(frozen=True)
class Start:
    """A moment of the real game: its state, and the frames (K, H, W, 3) and native actions (K-1,) that led there."""

    saved: Any
    frames: np.ndarray
    actions: np.ndarray


def find_starts(
    game: Game, count: int, window: int, rng: np.random.Generator, *, lead_in: tuple[int, int]
) -> list[Start]:
    """Moments that random play reached so many steps after an opening of its own, valid as long as the game is open.

    lead_in: least and most of these steps, before the `window` frames. ValueError where random play ends sooner, a
    hundred times in a row.
    """
    least, most = lead_in
    if not 0 <= least <= most:
        raise ValueError(f"--lead-in {least} {most}; give the least number of steps, then the most")
    starts, lost = [], 0
    while len(starts) < count:
        if lost == MOST_LOST:
            seen = f"random play of {game.name} ended {lost} times in a row before a lead-in of {least} to {most} steps"
            raise ValueError(f"{seen} and {window} frames of memory; give a shorter --lead-in")
        past = random_past(game, window, (least, most + 1), rng)
        lost = 0 if past else lost + 1
        if past:
            starts.append(Start(game.save(), *past))
    return starts


def play_real(game: Game, contestant: Contestant, starts: Sequence[Start], steps: int, seed: int) -> np.ndarray:
    """Returns (S,) of so many steps of the real game from each start, or until it ends.

    In a game with luck that can be changed it is drawn anew, from the seed, so that two seeds play two games.
    """
    returns = np.zeros(len(starts))
    for i, start in enumerate(starts):
        rng = np.random.default_rng([seed, i])
        frame = game.restore(start.saved)
        if game.luck() is not None:
            game.reroll(rng)
        act = contestant.begin(start.frames[None, :-1], [rng])
        for _ in range(steps):
            frame, reward, ended = game.step(plain(act(frame[None])[0]))
            returns[i] += reward
            if ended:
                break
    return returns


def play_imagined(
    model: WorldModel,
    contestant: Contestant,
    starts: Sequence[Start],
    steps: int,
    seed: int,
    *,
    denoising: int,
    batch: int,
) -> np.ndarray:
    """The same in the world, which remembers the real past; an episode that its head ends earns no more."""
    parts = [starts[first : first + batch] for first in range(0, len(starts), batch)]
    return np.concatenate(
        [_imagined(model, contestant, part, steps, [seed, number], denoising) for number, part in enumerate(parts)]
    )


def _imagined(
    model: WorldModel, contestant: Contestant, starts: Sequence[Start], steps: int, seed: list[int], denoising: int
) -> np.ndarray:
    rngs = np.random.default_rng(seed).spawn(len(starts))
    past = np.stack([start.frames for start in starts])
    between = np.stack([start.actions for start in starts])
    state = imagine.begin(model, past, between, [rng.integers(2**31) for rng in rngs])
    act, frames = contestant.begin(past[:, :-1], rngs), past[:, -1]
    returns, over = np.zeros(len(starts)), np.zeros(len(starts), bool)
    for _ in range(steps):
        vectors = torch.from_numpy(np.ascontiguousarray(model.actions.encode(act(frames))))
        step = model.step(state, vectors, steps=denoising)
        returns += np.where(over, 0.0, step.reward.cpu().numpy())
        over |= step.ended.cpu().numpy()
        frames = step.frame.permute(0, 2, 3, 1).cpu().numpy()
        if over.all():
            break
    return returns
