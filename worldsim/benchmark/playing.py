"""A world in play, as the benchmarks play it: random actions, each frame all in."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from worldsim.world_model import WorldModel, WorldState


def begin(model: WorldModel, seed: int, worlds: int = 1) -> WorldState:
    """So many worlds at the start states, one after another, with the noise seeds `seed`, `seed + 1`, ..."""
    starts = np.arange(worlds) % len(model.starts.frames)
    frames = torch.from_numpy(model.starts.frames[starts]).permute(0, 1, 4, 2, 3).contiguous()
    actions = torch.from_numpy(np.ascontiguousarray(model.actions.encode(model.starts.actions[starts])))
    return model.reset(frames, actions, range(seed, seed + worlds))


def random_action(model: WorldModel, rng: np.random.Generator, worlds: int = 1) -> Tensor:
    """One of the world's actions for each of so many worlds, (B, A)."""
    table, size = model.actions.table, model.actions.size
    if table is None:
        vectors = rng.uniform(0.0, 1.0, (worlds, size))
    else:
        vectors = model.actions.encode(rng.integers(len(table), size=worlds))
    return torch.from_numpy(np.array(vectors, dtype=np.float32))


def play_frame(model: WorldModel, state: WorldState, action: Tensor, steps: int) -> np.ndarray:
    """Change the state by one frame; the pictures (B, H, W, 3) uint8 on the CPU."""
    return picture(model.step(state, action, steps=steps).frame)


def picture(frame: Tensor) -> np.ndarray:
    """(B, 3, H, W) uint8 -> (B, H, W, 3) uint8 on the CPU."""
    return frame.permute(0, 2, 3, 1).contiguous().cpu().numpy()


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
