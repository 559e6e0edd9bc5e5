"""Measures of imagined frames against real ones.

Pure functions. Frames are `(..., H, W, 3)` uint8 in 0..255, time on the axis before `H`; nothing here knows a model or
a game. Pooled PSNR is used throughout: the PSNR of the mean squared error over every pixel and window, never the mean
of per-frame PSNRs, which can lie 10 dB higher.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np
import torch

PEAK = 255.0
MSE_FLOOR = 0.01
"""Squared levels; equal frames then score 68.1 dB instead of infinity."""
GRAIN = 2
"""Levels of 255 that a channel may change without anybody seeing it, about 1 % of white."""


def squared_error(frames: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Mean squared error per frame, (...) float64 in squared levels, of two equally shaped sets of frames.

    Raises ValueError where the shapes differ.
    """
    if frames.shape != reference.shape:
        raise ValueError(f"frames have shape {frames.shape}, their reference {reference.shape}; they must be equal")
    difference = frames.astype(np.float32) - reference.astype(np.float32)
    return np.square(difference).mean(axis=(-3, -2, -1), dtype=np.float64)


def pooled_psnr(errors: np.ndarray) -> float:
    """PSNR in dB of the mean of the squared errors (any shape); at most 68.1 dB (Huynh-Thu and Ghanbari 2008)."""
    return float(10.0 * np.log10(PEAK**2 / max(float(np.mean(errors)), MSE_FLOOR)))


def gain_over(errors: np.ndarray, floor_errors: np.ndarray) -> float:
    """PSNR gain in dB of a model over a floor on the same windows: pooled PSNR of the one minus that of the other.

    The floor copies the last known frame: any model of a slow game has a high PSNR, only the gain says it predicts
    (DoomDiT's "gain over persistence").
    """
    return pooled_psnr(errors) - pooled_psnr(floor_errors)


def bootstrap_interval(
    statistic: Callable[..., float],
    groups: np.ndarray,
    *arrays: np.ndarray,
    rng: np.random.Generator,
    samples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of `statistic(*arrays)` under resampling of whole groups, in the statistic's unit.

    groups: (n,) the episode of each of the n rows of `arrays`. Windows of one episode are not independent, so episodes
    are drawn, not windows (Efron and Tibshirani 1993, chapter 8: cluster bootstrap).
    """
    rows = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    values = []
    for _ in range(samples):
        drawn = np.concatenate([rows[i] for i in rng.integers(len(rows), size=len(rows))])
        values.append(statistic(*(array[drawn] for array in arrays)))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def motion(frames: np.ndarray, *, grain: int = GRAIN) -> np.ndarray:
    """Mean absolute change from each frame to the next, (..., T-1) float64 in levels.

    A change of at most `grain` levels counts as none: a network's grain can cover a picture whose real one keeps its
    bytes, and would then pass for twice its motion.
    """
    change = np.abs(np.diff(frames.astype(np.int16), axis=-4))
    return np.where(change > grain, change, 0).mean(axis=(-3, -2, -1))


def changed_pixels(frames: np.ndarray, *, levels: int = 16) -> np.ndarray:
    """Pixels that change by more than `levels` in some channel from each frame to the next, (..., T-1) int."""
    change = np.abs(np.diff(frames.astype(np.int16), axis=-4)) > levels
    return np.moveaxis(change, -1, 0).any(axis=0).sum(axis=(-2, -1))


def sharpness(frames: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Mean absolute Laplacian of the grey image, (...) float64 in levels (after Pech-Pacheco et al. 2000).

    mask: (H, W) bool, the pixels that count; None: all. A still background would otherwise hide a smeared sprite.
    """
    grey = frames.astype(np.float32).mean(axis=-1)
    laplacian = 4 * grey[..., 1:-1, 1:-1] - grey[..., :-2, 1:-1] - grey[..., 2:, 1:-1]
    laplacian -= grey[..., 1:-1, :-2] + grey[..., 1:-1, 2:]
    inner = np.ones(laplacian.shape[-2:], bool) if mask is None else mask[1:-1, 1:-1]
    return np.abs(laplacian[..., inner]).mean(axis=-1, dtype=np.float64)


def saturation(frames: np.ndarray) -> np.ndarray:
    """Mean distance between the strongest and the weakest channel of a pixel (HSV chroma), (...) float64 in levels."""
    return _chroma(frames).mean(axis=(-2, -1))


def coloured_share(frames: np.ndarray, *, levels: int = 16) -> np.ndarray:
    """Share of a frame's pixels with a chroma over `levels`, (...) float64 in [0, 1]."""
    return (_chroma(frames) > levels).mean(axis=(-2, -1))


def vividness(frames: np.ndarray, share: float) -> np.ndarray:
    """Chroma that `share` of a frame's pixels reach, one pixel at least, (...) uint8 in levels.

    With half of the `coloured_share` this is the chroma of a typical coloured pixel: whatever fades or strengthens
    every colour scales it, while something gaudy that covers a part of the picture, which `saturation` follows, does
    not.
    """
    chroma = _chroma(frames).reshape(*frames.shape[:-3], -1)
    rank = max(chroma.shape[-1] - 1 - int(share * chroma.shape[-1]), 0)
    return np.partition(chroma, rank, axis=-1)[..., rank]


def abruptness(frames: np.ndarray, *, steps: int, length: int) -> np.ndarray:
    """Squared change of one step divided by that over `steps` steps, each the mean over `length` frames,
    (T - steps - length + 1,) float64; one value where T is less.

    A sharp sprite jumps on, one that leaves a trail of n frames changes 1/n^2 as much a step. It is 1 where nothing
    changes, and asks neither how much moves nor before what.
    """
    steps = min(steps, len(frames) - 1)
    once = squared_error(frames[steps:], frames[steps - 1 : -1])
    whole = squared_error(frames[steps:], frames[:-steps])
    return (moving_average(once, length) + MSE_FLOOR) / (moving_average(whole, length) + MSE_FLOOR)


def colour_cumulative(frames: np.ndarray) -> np.ndarray:
    """Cumulative colour histogram of each channel, (..., 3, 256) float64 in [0, 1]."""
    channels = np.moveaxis(frames, -1, -3)
    flat = channels.reshape(-1, frames.shape[-3] * frames.shape[-2])
    counts = np.stack([np.bincount(row, minlength=256) for row in flat])
    return (counts.cumsum(axis=1) / flat.shape[1]).reshape(*channels.shape[:-2], 256)


def colour_distance(cumulative: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Earth mover's distance between colour histograms, mean of the channels, (...) float64 in levels.

    Both arguments as `colour_cumulative` gives them. On a line the distance is the area between the cumulative
    histograms (Vallender 1974).
    """
    return np.abs(cumulative - reference).sum(axis=-1).mean(axis=-1)


def nearest_psnr(frames: np.ndarray, reference: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
    """PSNR in dB of each frame (T, H, W, 3) to the nearest reference frame (R, H, W, 3), (T,) float32.

    float32 reference frames spare a conversion, and their `squared_lengths`, where given, half of the time.
    """
    flat, known = (torch.from_numpy(np.asarray(x, np.float32).reshape(len(x), -1)) for x in (frames, reference))
    own, others = squared_lengths(frames), squared_lengths(reference) if lengths is None else lengths
    squares = torch.from_numpy(own)[:, None] + torch.from_numpy(others)
    errors = (squares - 2 * flat @ known.T).min(dim=1).values / flat.shape[1]
    return 10.0 * np.log10(PEAK**2 / np.maximum(errors.numpy(), MSE_FLOOR))


def squared_lengths(frames: np.ndarray) -> np.ndarray:
    """Sum of the squares of each frame's values, frames (N, H, W, 3) of any kind, (N,) float32."""
    flat = torch.from_numpy(np.asarray(frames, np.float32).reshape(len(frames), -1))
    return torch.linalg.vecdot(flat, flat).numpy()


def moving_pixels(*scenes: np.ndarray, levels: float = 8.0) -> np.ndarray:
    """Pixels that vary over the real frames (N, H, W, 3) of a scene, (H, W) bool: over `levels` standard deviation in
    some channel. Of several scenes the variances are averaged, so that what tells them apart does not count."""
    variance = sum(frames.var(axis=0, dtype=np.float32) for frames in scenes) / len(scenes)
    return np.sqrt(variance).max(axis=-1) > levels


def longest_run(flags: np.ndarray) -> int:
    """Length of the longest unbroken run of true values in (T,) bool."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(flags, dtype=np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def moving_average(values: np.ndarray, length: int) -> np.ndarray:
    """Means of every `length` consecutive values, (T - length + 1,) float64; one mean of all where T < length."""
    length = min(length, len(values))
    return np.convolve(values, np.full(length, 1.0 / length), mode="valid")


def sign_credit(back: np.ndarray, forth: np.ndarray, *, dead_zone: float = 0.5) -> np.ndarray:
    """Credit of the sign test per state, (n,) bool: both opposite commands moved the sprite the way they say.

    back, forth: (n,) net displacement in pixels along the command's axis under the command that should lower and raise
    the coordinate; NaN where the sprite could not be read. A displacement within `dead_zone` has no sign, so a still
    world scores 0 and a world that ignores commands at most .25 (KCtrl sign test of ForgeWM).
    """
    return (back < -dead_zone) & (forth > dead_zone)


def _chroma(frames: np.ndarray) -> np.ndarray:
    """(..., H, W) uint8."""
    first, *others = np.moveaxis(frames, -1, 0)  # ten times as fast as reducing an axis of length 3
    return reduce(np.maximum, others, first) - reduce(np.minimum, others, first)
