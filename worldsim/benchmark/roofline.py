"""How near a frame comes to what the machine's own matrix products could do."""

from __future__ import annotations

import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from worldsim.heads import before_of
from worldsim.rollout import leave_at
from worldsim.world_model import WorldModel

SIDE = {"cpu": 1024, "cuda": 8192}
"""Rows and columns of the square product that stands for the machine's best."""

REPEATS, TURNS = 5, 7


def roofline(model: WorldModel, *, steps: int, frame_ms: float) -> dict[str, float]:
    """Useful GFLOP of a frame, the machine's matmul rate in the world's precision, and the share a frame reaches."""
    gflop, rate = frame_gflop(model, steps), matmul_gflop_per_s(model.device, model.denoiser.dtype)
    return {"frame_gflop": gflop, "matmul_gflop_per_s": rate, "roofline_share": gflop / (frame_ms * 1e-3) / rate}


@torch.no_grad()
def frame_gflop(model: WorldModel, steps: int) -> float:
    """Billions of operations in the products of one frame, a multiply-add as two: `steps` calls, the commit where there
    is one, and the heads.

    Counted on the plain networks, so that no speed-up of ours changes it.
    """
    network, device = model.denoiser, model.device
    cache, action = network.new_cache(1), torch.zeros(1, model.actions.size, device=device)
    frame = cache.previous.float()
    # The counter knows the CPU's fused attention as no product; written out it is two.
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as call:
            network(frame, torch.ones(1, device=device), action, cache)
        with FlopCounterMode(display=False) as rest:
            if leave_at(model.sampler(steps)) is None:
                network.commit(frame, action, cache)
            model.heads(before_of(frame.expand(1, model.heads.config.lag, -1, -1, -1)), frame)
    return (steps * call.get_total_flops() + rest.get_total_flops()) / 1e9


@torch.no_grad()
def matmul_gflop_per_s(device: torch.device, dtype: torch.dtype) -> float:
    """The best rate of a large square product, measured now with as many threads as the world has."""
    side = SIDE[device.type]
    a = torch.ones(side, side, device=device, dtype=dtype)
    times = []
    for _ in range(TURNS):
        _wait(device)
        started = time.perf_counter()
        for _ in range(REPEATS):
            a @ a
        _wait(device)
        times.append((time.perf_counter() - started) / REPEATS)
    return 2 * side**3 / min(times) / 1e9


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
