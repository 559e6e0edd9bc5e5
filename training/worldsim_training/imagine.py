"""Batches of worlds, played under given native actions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Event
from typing import TypeVar

import numpy as np
import torch

from worldsim.world_model import WorldModel, WorldState

Result = TypeVar("Result")


@dataclass(frozen=True)
class Settings:
    """How to imagine."""

    steps: int
    """Denoising steps a frame."""
    batch: int
    """Worlds that are played together."""
    workers: int = 1
    """Batches that are played at once, each on one CPU thread."""
    progress: Callable[[int], object] = lambda frames: None
    """Called with the number of frames just painted."""


def begin(model: WorldModel, frames: np.ndarray, actions: np.ndarray, seeds: Sequence[int]) -> WorldState:
    """Worlds that remember real frames (B, K, H, W, 3) uint8 and the native actions (B, K-1) between them."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 1, 4, 2, 3).contiguous()
    vectors = torch.from_numpy(np.ascontiguousarray(model.actions.encode(actions)))
    return model.reset(pixels, vectors, [int(seed) for seed in seeds])


@dataclass(frozen=True)
class Played:
    """What T steps of worlds showed: frames (..., T, H, W, 3) uint8, rewards (..., T) float32, ended (..., T) bool."""

    frames: np.ndarray
    rewards: np.ndarray
    ended: np.ndarray


def play(
    model: WorldModel, state: WorldState, actions: np.ndarray, settings: Settings
) -> tuple[np.ndarray, np.ndarray]:
    """Change the state by T frames under native actions (B, T): frames (B, T, H, W, 3) uint8, ends (B, T) bool."""
    played = play_outcomes(model, state, actions, settings)
    return played.frames, played.ended


def play_outcomes(model: WorldModel, state: WorldState, actions: np.ndarray, settings: Settings) -> Played:
    """Change the state by T frames under native actions (B, T[, A]); with the rewards that the world gave."""
    vectors = torch.from_numpy(np.ascontiguousarray(model.actions.encode(actions)))
    steps = []
    for action in vectors.unbind(1):
        step = model.step(state, action, steps=settings.steps)
        steps.append(
            (step.frame.permute(0, 2, 3, 1).cpu().numpy(), step.reward.cpu().numpy(), step.ended.cpu().numpy())
        )
        settings.progress(len(action))
    return Played(*(np.stack(each, axis=1) for each in zip(*steps, strict=True)))


def in_batches(count: int, settings: Settings, work: Callable[[slice, Settings], Result]) -> list[Result]:
    """Results of `work(part, settings)` for every batch of `count` worlds, in order; batches are nearly equally large.

    On a CPU, batches side by side on one thread each are a fifth faster than one after another on all threads, and what
    they paint does not depend on the number of cores. An error or Ctrl-C ends all of them at their next frame.
    """
    edges = np.linspace(0, count, -(-count // settings.batch) + 1).round().astype(int).tolist()
    parts = [slice(first, last) for first, last in zip(edges[:-1], edges[1:], strict=True)]
    stop, threads = Event(), torch.get_num_threads()

    def progress(frames: int) -> None:
        if stop.is_set():
            raise InterruptedError("another batch failed")
        settings.progress(frames)

    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(settings.workers) as executor:
            futures = [executor.submit(work, part, replace(settings, progress=progress)) for part in parts]
            try:
                return [future.result() for future in futures]
            except BaseException:
                stop.set()
                executor.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        torch.set_num_threads(threads)
