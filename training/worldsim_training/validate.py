"""The quick scores of a network on held-out clips: gains over copying, motion and sharpness ratios, a film strip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from worldsim.codec import PixelCodec
from worldsim.models.dit import CausalDiT
from worldsim.rollout import Sampler, remember, rollout
from worldsim_training import metrics
from worldsim_training.dataset import Clip

HORIZONS = (1, 4, 16, 32, 64)


@torch.no_grad()
def imagine(network: CausalDiT, sampler: Sampler, clip: Clip, context_frames: int, *, seed: int = 2) -> torch.Tensor:
    """Free-running frames (B, T, C, H, W) uint8 after the real context of each clip, under its recorded actions."""
    codec = PixelCodec()
    frames = codec.encode(clip.frames)
    generator = torch.Generator(frames.device).manual_seed(seed)
    cache = network.new_cache(len(frames))
    with torch.autocast(frames.device.type, dtype=torch.bfloat16):
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
    """Gain in dB over copying the last context frame at each horizon (pooled PSNR), and late ratios to real frames."""
    real, seen = _pixels(clip.frames), _pixels(imagined)
    future, last = real[:, context_frames:], real[:, context_frames - 1]
    out = {}
    for horizon in HORIZONS:
        floor = metrics.squared_error(last, future[:, horizon - 1])
        error = metrics.squared_error(seen[:, horizon - 1], future[:, horizon - 1])
        out[f"gain_{horizon}_db"] = metrics.gain_over(error, floor)
    late = slice(HORIZONS[-1] - 16, HORIZONS[-1])
    out["motion_ratio"] = float(metrics.motion(seen[:, late]).mean() / metrics.motion(future[:, late]).mean())
    out["sharpness_ratio"] = float(metrics.sharpness(seen[:, late]).mean() / metrics.sharpness(future[:, late]).mean())
    return {name: round(value, 3) for name, value in out.items()}


def film_strip(imagined: torch.Tensor, clip: Clip, context_frames: int, path: Path, *, rows: int = 4) -> None:
    """Write a PNG, three times size: for some clips the real frames above the imagined ones, at rising horizons."""
    real, seen = _pixels(clip.frames)[:, context_frames:], _pixels(imagined)
    shown = np.unique(np.geomspace(1, HORIZONS[-1], 12).round().astype(int)) - 1
    pairs = [
        np.concatenate([np.concatenate(list(source[row, shown]), axis=1) for source in (real, seen)])
        for row in range(min(rows, len(real)))
    ]
    sheet = np.concatenate(pairs).repeat(3, axis=0).repeat(3, axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path)


def _pixels(frames: torch.Tensor) -> np.ndarray:
    return frames.movedim(-3, -1).cpu().numpy()
