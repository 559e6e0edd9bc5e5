"""Whether play takes more and more memory: the process's size over many steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from tqdm import tqdm

from worldsim.resident import resident_mb

SAMPLES = 200
WARMUP_SHARE = 0.2
"""Of the steps: the pools of torch and Python fill within it."""
FLAT_MB = 1.0
"""Growth over 100,000 steps, or over a whole shorter run, below which memory counts as flat."""
MEGABYTE = 2**20


def watch(
    step: Callable[[], object], steps: int, *, device: torch.device | str = "cpu", progress: bool = True
) -> dict[str, float | int | str]:
    """Call `step` so often and tell how the process grew, and on a GPU its tensors' memory there, in megabytes.

    `memory_mb_per_100k_steps` is the slope after the first fifth, the median over all pairs of samples (Sen 1968), so
    that a single jump does not count; `memory_flat` is "yes" or "no".
    """
    every = max(1, steps // SAMPLES)
    at, sizes, on_device = [], [], []
    for number in tqdm(range(1, steps + 1), unit="step", desc="memory", disable=not progress):
        step()
        if number % every == 0:
            at.append(number)
            sizes.append(resident_mb())
            on_device.append(device_mb(device))
    first = int(WARMUP_SHARE * len(at))
    slope, on_device_slope = (100_000 * median_slope(at[first:], each[first:]) for each in (sizes, on_device))
    limit = FLAT_MB * max(1.0, 100_000 / steps)
    return {
        "memory_steps": steps,
        "memory_first_mb": sizes[0],
        "memory_after_warmup_mb": sizes[first],
        "memory_last_mb": sizes[-1],
        "memory_mb_per_100k_steps": slope,
        "memory_device_last_mb": on_device[-1],
        "memory_device_mb_per_100k_steps": on_device_slope,
        "memory_flat": "yes" if max(slope, on_device_slope) < limit else "no",
    }


def median_slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Median of the slopes between all pairs of points (Sen 1968); 0 for a single point."""
    first, second = np.triu_indices(len(x), k=1)
    if not len(first):
        return 0.0
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return float(np.median((y[second] - y[first]) / (x[second] - x[first])))


def device_mb(device: torch.device | str) -> float:
    """Megabytes of tensors on a GPU; 0 on the CPU."""
    device = torch.device(device)
    return torch.cuda.memory_allocated(device) / MEGABYTE if device.type == "cuda" else 0.0
