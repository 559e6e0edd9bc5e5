"""Where a frame's time goes: painting, heads, commit, picture, each by itself."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from worldsim.benchmark.playing import picture, random_action, synchronise
from worldsim.engine.graphs import Recorded
from worldsim.heads import before_of
from worldsim.world_model import WorldModel, WorldState

STAGE_FRAMES = 60


def time_stages(
    model: WorldModel, state: WorldState, steps: int, rng: np.random.Generator, *, frames: int = STAGE_FRAMES
) -> dict[str, float]:
    """Change the state by `frames` frames: median milliseconds of painting (all denoising), of reading the heads, of
    the commit alone, of the pictures on the CPU, for all worlds of the state at once.

    From an input to the frame that answers it a player waits for painting and picture: the commit may come after.
    `WorldModel.commit` reads the heads too; the heads are timed once more by themselves and taken off.
    """
    clock, worlds, read = _Clock(model), len(state.last), None
    for _ in range(frames):
        action = random_action(model, rng, worlds)
        before = model.codec.encode(before_of(state.past))
        with clock("paint"):
            frame = model.paint(state, action, steps=steps)
        after = model.codec.encode(frame)
        read = read or _reading(model, before, after)
        with clock("heads"):
            read(before, after)
        with clock("commit"):
            model.commit(state, frame, action)
        with clock("convert"):
            picture(frame)
    median = {stage: statistics.median(times) for stage, times in clock.times_ms.items()}
    shown_ms = np.add(clock.times_ms["paint"], clock.times_ms["convert"])
    return {
        **{f"input_to_frame_ms_p{share}": float(np.percentile(shown_ms, share)) for share in (50, 95, 99)},
        "paint_ms": median["paint"],
        "commit_ms": max(0.0, median["commit"] - median["heads"]),
        "heads_ms": median["heads"],
        "convert_ms": median["convert"],
    }


def _reading(model: WorldModel, before: Tensor, after: Tensor) -> Callable[[Tensor, Tensor], object]:
    """The heads as a commit reads them: there they are part of its graph, if it is one."""
    return Recorded(model.reader.read, before, after) if model.is_graphed else model.reader.read


@dataclass
class _Clock:
    """Collects the times of named stages."""

    model: WorldModel
    times_ms: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        synchronise(self.model)
        started = time.perf_counter()
        yield
        synchronise(self.model)
        self.times_ms.setdefault(stage, []).append(1e3 * (time.perf_counter() - started))
