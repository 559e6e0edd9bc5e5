"""Another program's step timed in turn with a world's, on the same machine in the same minutes.

An adapter is a Python file with one function, which is called once and answers the other program's step:

    def make(height: int, width: int, device: str):
        world = ...                        # load it, warm it up
        def step(action: int):             # 0 <= action < 18, say
            return world.advance(action)   # the frame (height, width, 3) uint8, on the CPU
        return step

The first line of the file's docstring names it in the report. `examples/adapters/diamond.py` is a worked one.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worldsim.benchmark.plain import ConcatenatingDiT
from worldsim.benchmark.playing import begin, picture, play_frame, random_action
from worldsim.late_commit import LateCommit
from worldsim.rollout import leave_at
from worldsim.world_model import WorldModel

OWN = PLAIN, PLAIN_COMMIT, LATE, COMMIT = "plain", "plain-commit", "late", "commit"
"""Names, in the place of an adapter, of our own plain code; of that with a commit of every frame, where the world does
without; of the world itself with each commit in the first pass of the next frame (`LateCommit`); and of the world
itself with a commit of every frame, where it does without."""

PAIRS, TURN_FRAMES, WARMUP_FRAMES = 12, 8, 3
"""Turns of each side, the frames of a turn, and those of each side before any is timed."""

ACTIONS = 18
"""Actions are drawn below this number for an adapter."""


@dataclass(frozen=True)
class Rival:
    """A step to be timed, and what to call it."""

    name: str
    step: Callable[[], object]


def load_rival(asked: str, model: WorldModel, world: str | Path, *, steps: int, seed: int) -> Rival:
    """The rival asked for: `PLAIN`, `PLAIN_COMMIT`, `LATE`, `COMMIT`, or the path of an adapter, for frames of the
    world's size and on its device.

    Raises ValueError in one line where the file is no adapter, and where a world without commits is wanted to compare.
    """
    if asked in (COMMIT, PLAIN_COMMIT) and leave_at(model.sampler(steps)) is None:
        raise ValueError(f"'{asked}' compares nothing: {model.info.name} commits every frame of {steps} steps already")
    if asked in (PLAIN, PLAIN_COMMIT):
        return _plain(world, str(model.device), steps, seed, commits=asked == PLAIN_COMMIT)
    if asked == LATE:
        return _late(model, steps, seed)
    if asked == COMMIT:
        return _committing(model, steps, seed)
    path, info = Path(asked), model.info
    module = _module(path)
    step = module.make(info.height, info.width, str(model.device))
    frame, size = np.asarray(step(0)), (info.height, info.width, 3)
    if frame.shape != size or frame.dtype != np.uint8:
        raise ValueError(f"'{path}' gave a frame {frame.shape} {frame.dtype}; this world's are {size} uint8")
    rng = np.random.default_rng(seed)
    name = (module.__doc__ or path.stem).strip().partition("\n")[0].rstrip(".")
    return Rival(name, lambda: step(int(rng.integers(ACTIONS))))


def time_rival(model: WorldModel, rival: Rival, *, steps: int, seed: int) -> dict[str, float | int | str]:
    """Frames a second of the world, all in with a full window, and of the rival, in turn, with each pair's ratio."""
    rng, state = np.random.default_rng(seed), begin(model, seed)

    def own() -> None:
        play_frame(model, state, random_action(model, rng), steps)

    for _ in range(model.info.window_frames):
        own()
    for _ in range(WARMUP_FRAMES):
        rival.step()
    pairs = [(_frames_per_s(own), _frames_per_s(rival.step)) for _ in range(PAIRS)]
    ratios = [ours / theirs for ours, theirs in pairs]
    return {
        "rival": rival.name,
        "rival_pairs": PAIRS,
        "rival_fps_p50": statistics.median(theirs for _, theirs in pairs),
        "rival_fps_max": max(theirs for _, theirs in pairs),
        "rival_own_fps_p50": statistics.median(ours for ours, _ in pairs),
        "rival_own_fps_max": max(ours for ours, _ in pairs),
        "rival_ratio_p50": statistics.median(ratios),
        "rival_ratio_min": min(ratios),
        "rival_ratio_max": max(ratios),
    }


def _frames_per_s(step: Callable[[], object]) -> float:
    started = time.perf_counter()
    for _ in range(TURN_FRAMES):
        step()
    return TURN_FRAMES / (time.perf_counter() - started)


def _plain(world: str | Path, device: str, steps: int, seed: int, *, commits: bool) -> Rival:
    import torch

    model = WorldModel.from_pretrained(world, device=device, dtype=torch.float32)
    if commits:
        model = model.with_commits()
    model.painter = ConcatenatingDiT(model.denoiser)
    model.reader = model.heads
    state, rng = begin(model, seed), np.random.default_rng(seed)
    for _ in range(max(0, model.info.window_frames - model.starts.frames.shape[1])):
        play_frame(model, state, random_action(model, rng), steps)
    name = "the same world, plain eager float32 with concatenated caches"
    return Rival(
        name + " and a commit of every frame" * commits,
        lambda: play_frame(model, state, random_action(model, rng), steps),
    )


def _committing(model: WorldModel, steps: int, seed: int) -> Rival:
    other, rng = model.with_commits(), np.random.default_rng(seed)
    state = begin(other, seed)
    name = "the same world with a commit of every frame"
    return Rival(name, lambda: play_frame(other, state, random_action(other, rng), steps))


def _late(model: WorldModel, steps: int, seed: int) -> Rival:
    committing = model.with_commits()
    worlds, rng = LateCommit(committing, begin(committing, seed)), np.random.default_rng(seed)
    name = "the same world with each commit in the next frame's first pass"
    return Rival(name, lambda: picture(worlds.step(random_action(model, rng), steps=steps).frame))


def is_known(asked: str) -> bool:
    """Whether `load_rival` may know this one: a name, or a Python file that is there."""
    return asked in OWN or (Path(asked).suffix == ".py" and Path(asked).is_file())


def _module(path: Path):
    if not is_known(str(path)):
        names = ", ".join(f"'{name}'" for name in OWN)
        raise ValueError(
            f"no adapter '{path}' is there; give {names} or a Python file with make(height, width, device)"
        )
    spec = importlib.util.spec_from_file_location(f"worldsim_rival_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if "make" not in vars(module):
        raise ValueError(f"adapter '{path}' has no function make(height, width, device); see worldsim.benchmark.rival")
    return module
