"""A world in play, as the benchmarks play it: random actions, each frame all in."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from worldsim.world_model import WorldModel, WorldState


def begin(model: WorldModel, seed: int) -> WorldState:
    """One world at the first start state."""
    frames = torch.from_numpy(model.starts.frames[:1]).permute(0, 1, 4, 2, 3).contiguous()
    actions = torch.from_numpy(np.ascontiguousarray(model.actions.encode(model.starts.actions[:1])))
    return model.reset(frames, actions, [seed])


def random_action(model: WorldModel, rng: np.random.Generator) -> Tensor:
    """One of the world's actions, (1, A)."""
    native = rng.integers(len(model.actions.table)) if model.actions.table is not None else None
    vector = model.actions.encode(native) if native is not None else rng.uniform(0.0, 1.0, model.actions.size)
    return torch.from_numpy(np.array(vector, dtype=np.float32))[None]


def play_frame(model: WorldModel, state: WorldState, action: Tensor, steps: int) -> np.ndarray:
    """Change the state by one frame; the picture (H, W, 3) uint8 on the CPU."""
    return picture(model.step(state, action, steps=steps).frame)


def picture(frame: Tensor) -> np.ndarray:
    """(1, 3, H, W) uint8 -> (H, W, 3) uint8 on the CPU."""
    return frame[0].permute(1, 2, 0).contiguous().cpu().numpy()


def timed(model: WorldModel, work: Callable[[], object]) -> tuple[object, float]:
    """What the work answers and the seconds it took, a GPU's work included."""
    synchronise(model)
    started = time.perf_counter()
    result = work()
    synchronise(model)
    return result, time.perf_counter() - started


def synchronise(model: WorldModel) -> None:
    """Wait for the device to be done."""
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
