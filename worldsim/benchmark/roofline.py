"""How near a frame comes to what the machine's own matrix products could do."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from worldsim.benchmark.playing import begin, play_frame, random_action, timed
from worldsim.heads import before_of
from worldsim.rollout import leave_at
from worldsim.world_model import WorldModel

SIDE = {"cpu": 1024, "cuda": 8192}
"""Rows and columns of the square product that stands for the machine's best."""

PAIRS, PAIR_CALLS = 9, 20
"""Turns of frames and products, and how many of each a turn has."""


def roofline(model: WorldModel, *, steps: int, seed: int = 0) -> dict[str, float]:
    """Useful GFLOP of a frame, and the share of the machine's matmul rate, in the world's precision, that frames reach.

    Frames with a full window and products are timed in turn, so that whatever slows the machine for a while slows both:
    the share is the median over pairs, each of median times, with the lowest and the highest. `matmul_gflop_per_s` is
    the best rate of all.
    """
    gflop, product = frame_gflop(model, steps), square_product(model.device, model.denoiser.dtype)
    state, rng = begin(model, seed), np.random.default_rng(seed)

    def frame() -> None:
        play_frame(model, state, random_action(model, rng), steps)

    for _ in range(model.info.window_frames):
        frame()
    pairs = [(_times_s(model, frame), _times_s(model, product)) for _ in range(PAIRS)]
    work = 2 * SIDE[model.device.type] ** 3 / 1e9
    shares = [gflop / work * statistics.median(products) / statistics.median(frames) for frames, products in pairs]
    return {
        "frame_gflop": gflop,
        "matmul_gflop_per_s": work / min(min(products) for _, products in pairs),
        "roofline_share": statistics.median(shares),
        "roofline_share_min": min(shares),
        "roofline_share_max": max(shares),
    }


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


def square_product(device: torch.device, dtype: torch.dtype) -> Callable[[], Tensor]:
    """A large square product, with as many threads as the world has: the machine's best."""
    a = torch.ones(SIDE[device.type], SIDE[device.type], device=device, dtype=dtype)
    return lambda: a @ a


def _times_s(model: WorldModel, work: Callable[[], object]) -> list[float]:
    return [timed(model, work)[1] for _ in range(PAIR_CALLS)]
