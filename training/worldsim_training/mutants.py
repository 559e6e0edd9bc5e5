"""Broken copies of real rollouts, on which the instruments are tested before they judge a world.

Each takes a real rollout (T, H, W, 3) uint8 and returns one of the same shape that breaks from frame `onset` on.
"""

from __future__ import annotations

import numpy as np


def frozen(frames: np.ndarray, onset: int, rng: np.random.Generator, *, flicker: float = 2.0) -> np.ndarray:
    """The picture stands still but for a faint flicker of `flicker` levels, as a stuck network shows it."""
    still = np.repeat(frames[onset : onset + 1], len(frames) - onset, axis=0)
    return _joined(frames[:onset], still + rng.normal(0.0, flicker, still.shape))


def noisy(frames: np.ndarray, onset: int, rng: np.random.Generator, *, levels: float = 40.0) -> np.ndarray:
    """Gaussian noise of `levels` standard deviation lies on every frame."""
    return _joined(frames[:onset], frames[onset:] + rng.normal(0.0, levels, frames[onset:].shape))


def smeared(frames: np.ndarray, onset: int, *, frames_back: int = 20) -> np.ndarray:
    """Every frame is the mean of itself and the `frames_back` before it: what moves leaves a trail."""
    total = np.concatenate([np.zeros_like(frames[:1], dtype=np.float64), frames.cumsum(axis=0, dtype=np.float64)])
    ends = np.arange(onset, len(frames)) + 1
    starts = np.maximum(0, ends - frames_back - 1)
    mean = (total[ends] - total[starts]) / (ends - starts)[:, None, None, None]
    return _joined(frames[:onset], mean)


def blurred(frames: np.ndarray, onset: int, *, passes: int = 3) -> np.ndarray:
    """A 3x3 box filter goes over every frame `passes` times."""
    picture = frames[onset:].astype(np.float32)
    for axis in (1, 2) * passes:
        padded = np.concatenate([picture.take([0], axis), picture, picture.take([-1], axis)], axis=axis)
        length = picture.shape[axis]
        picture = sum(padded.take(range(shift, shift + length), axis) for shift in range(3)) / 3.0
    return _joined(frames[:onset], picture)


def saturated(frames: np.ndarray, onset: int, *, gain: float = 3.0) -> np.ndarray:
    """Contrast is multiplied by `gain` about mid grey, so colours run into 0 and 255."""
    return _joined(frames[:onset], 127.5 + gain * (frames[onset:].astype(np.float32) - 127.5))


def faded(frames: np.ndarray, onset: int, *, gain: float = 0.5) -> np.ndarray:
    """Every colour moves toward the grey of its pixel; `gain` of the chroma is left."""
    picture = frames[onset:].astype(np.float32)
    grey = picture.mean(axis=-1, keepdims=True)
    return _joined(frames[:onset], grey + gain * (picture - grey))


def erased(frames: np.ndarray, onset: int, track: np.ndarray, *, size: int = 11) -> np.ndarray:
    """The sprite at `track` (T, 2), in (x, y) pixels, is replaced by the scene behind it."""
    boxes, out = _boxes(frames, track, size), frames.copy()
    background = _behind(frames, boxes)
    out[onset:] = np.where(boxes[onset:, ..., None], background, frames[onset:])
    return out


def _boxes(frames: np.ndarray, track: np.ndarray, size: int) -> np.ndarray:
    """(T, H, W) bool, the square around a sprite; none where it is not seen."""
    boxes = np.zeros(frames.shape[:3], bool)
    for t in np.flatnonzero(~np.isnan(track).any(axis=1)):
        x, y = track[t].round().astype(int)
        boxes[t, max(0, y - size) : y + size + 1, max(0, x - size) : x + size + 1] = True
    return boxes


def _behind(frames: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The scene without a sprite, (H, W, 3) uint8: each pixel's median over the frames whose box leaves it free, or
    the nearest such pixel of its row where it is never free."""
    free = (~boxes).sum(axis=0)
    ranked = np.sort(np.where(boxes[..., None], np.uint8(255), frames), axis=0)  # what is free comes first
    middle = np.take_along_axis(ranked, (np.maximum(free - 1, 0) // 2)[None, ..., None], axis=0)[0]
    columns = np.arange(frames.shape[2])
    steps = np.abs(columns[:, None] - columns) + len(columns) * (free == 0)[:, None]  # (H, W, W)
    return np.take_along_axis(middle, steps.argmin(axis=-1)[..., None], axis=1)


def _joined(before: np.ndarray, broken: np.ndarray) -> np.ndarray:
    return np.concatenate([before, np.clip(np.rint(broken), 0, 255).astype(np.uint8)])
