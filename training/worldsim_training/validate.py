"""The quick scores of a network on held-out clips: gains over copying, late ratios, response to actions, a strip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from worldsim.codec import PixelCodec
from worldsim.engine import GraphedDiT
from worldsim.models.dit import CausalDiT
from worldsim.rollout import Sampler, remember, rollout
from worldsim_envs.pictures import Column, contact_sheet
from worldsim_training import metrics
from worldsim_training.dataset import Clip

HORIZONS = (1, 4, 16, 32, 64)
LATE_FRAMES = 16
RESPONSE_FRAMES = 16
GREY_LEVELS = 4.0
"""Added to both sides of the saturation ratio: a grey game has no saturation to compare with."""
STRIP_ROWS, STRIP_COLUMNS, STRIP_SCALE = 4, 12, 2


@torch.no_grad()
def free_run(
    network: CausalDiT | GraphedDiT, sampler: Sampler, clip: Clip, context_frames: int, *, seed: int = 2
) -> torch.Tensor:
    """Imagined frames (B, T, 3, H, W) uint8 after the real context of each clip, under its recorded actions.

    The network plays in the precision of its weights.
    """
    codec = PixelCodec()
    frames = codec.encode(clip.frames)
    generator = torch.Generator(frames.device).manual_seed(seed)
    cache = network.new_cache(len(frames))
    remember(network, cache, frames[:, :context_frames], clip.actions[:, 1:context_frames])
    painted = rollout(
        network,
        sampler,
        cache,
        clip.actions[:, context_frames:],
        lambda: torch.randn(frames[:, 0].shape, device=frames.device, generator=generator),
    )
    return codec.decode(painted)


def score(imagined: torch.Tensor, clip: Clip, context_frames: int) -> dict[str, float]:
    """Gain in dB over copying the last context frame at each horizon (pooled PSNR), and how the late frames compare.

    Late are the last 16. Their motion, sharpness and saturation are given as ratios to those of the real frames, their
    drift as the distance in levels between all their colours and all the real ones'.
    """
    real, seen = _pixels(clip.frames), _pixels(imagined)
    future, last = real[:, context_frames:], real[:, context_frames - 1]
    out = {}
    for horizon in (h for h in HORIZONS if h <= seen.shape[1]):
        floor = metrics.squared_error(last, future[:, horizon - 1])
        error = metrics.squared_error(seen[:, horizon - 1], future[:, horizon - 1])
        out[f"gain_{horizon}_db"] = metrics.gain_over(error, floor)
    for name, measure in (("motion", metrics.motion), ("sharpness", metrics.sharpness)):
        late, wanted = (float(measure(frames[:, -LATE_FRAMES:]).mean()) for frames in (seen, future))
        out[f"{name}_ratio"] = late / max(wanted, 1e-6)  # a still game has no motion
    late, wanted = seen[:, -LATE_FRAMES:], future[:, -LATE_FRAMES:]
    chroma, real_chroma = (float(metrics.saturation(frames).mean()) for frames in (late, wanted))
    out["saturation_ratio"] = (chroma + GREY_LEVELS) / (real_chroma + GREY_LEVELS)
    colours, real_colours = (metrics.colour_cumulative(frames).mean(axis=(0, 1)) for frames in (late, wanted))
    out["drift_levels"] = float(metrics.colour_distance(colours, real_colours))
    return {name: round(value, 3) for name, value in out.items()}


def response(
    network: CausalDiT | GraphedDiT, sampler: Sampler, clip: Clip, context_frames: int, imagined: torch.Tensor
) -> dict[str, float]:
    """How far other actions lead away from `imagined`, which is `free_run` of the same: `response_levels`.

    That is the mean absolute difference, over the first 16 frames and all pixels in levels of 0..255, to the futures
    with the same context and the same noise under other actions. 0 where the network does not hear its actions.
    """
    length = context_frames + min(RESPONSE_FRAMES, imagined.shape[1])
    frames, actions, known = (each[:, :length] for each in (clip.frames, clip.actions, clip.known))
    other = torch.cat((actions[:, :context_frames], _others(actions[:, context_frames:])), dim=1)
    elsewhere = free_run(network, sampler, replace(clip, frames=frames, actions=other, known=known), context_frames)
    change = (elsewhere.float() - imagined[:, : elsewhere.shape[1]].float()).abs().mean().item()
    return {"response_levels": round(change, 3)}


def _others(actions: torch.Tensor) -> torch.Tensor:
    """Actions (B, T, A) of the nearest clip before that has others, round from the last; where none has, its own from
    behind."""
    out = actions.flip(1)
    for back in range(len(actions) - 1, 0, -1):
        there = actions.roll(back, dims=0)
        differs = (there != actions).flatten(1).any(1)
        out[differs] = there[differs]
    return out


def film_strip(imagined: torch.Tensor, clip: Clip, context_frames: int, path: Path, title: str) -> None:
    """Write a PNG: for some clips the real frames above the imagined ones, at rising horizons."""
    real, seen = _pixels(clip.frames)[:, context_frames:], _pixels(imagined)
    horizons = np.unique(np.geomspace(1, seen.shape[1], STRIP_COLUMNS).round().astype(int))
    bands = [
        [Column(f"step {h}", "", {"real": real[row, h - 1], "imagined": seen[row, h - 1]}) for h in horizons]
        for row in range(min(STRIP_ROWS, len(real)))
    ]
    contact_sheet(bands, title, "Held-out clips under their recorded actions.", STRIP_SCALE).save(path)


def _pixels(frames: torch.Tensor) -> np.ndarray:
    return frames.movedim(-3, -1).cpu().numpy()
