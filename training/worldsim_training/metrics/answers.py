"""Measures of what a simulator answers: control, recovered actions, events, states and the onset of a reaction.

Pure functions on arrays. A figure that has no meaning on what it was given is NaN, never 0.
"""

from __future__ import annotations

import numpy as np

from worldsim_training.metrics.frames import MSE_FLOOR, PEAK


def mask_errors(frames: np.ndarray, reference: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Sum of squared errors on each frame's mask, (n,) float64 in squared levels.

    frames, reference: (n, H, W, 3) uint8; mask: (n, H, W) bool, the pixels that count.
    """
    difference = np.square(frames.astype(np.float64) - reference.astype(np.float64)).sum(axis=-1)
    return (difference * mask).sum(axis=(-2, -1))


def control_score(own: np.ndarray, crossed: np.ndarray, apart: np.ndarray, values: np.ndarray) -> float:
    """Masked control score C: 0 for a simulator that ignores the action, 1 for a perfect one.

    From one state the real game shows x under an action and x' under another; the simulator shows y and y'. With P the
    pooled PSNR on the pixels M that some action changes, C = [P(x,y) - P(x,y')] / [P(x,y) - P(x,x')] (after Genie's
    delta PSNR, Bruce et al. 2024, but against exact branches, on M alone and normalised).

    own, crossed, apart: (n,) sums of squared errors of y, y' and x' against x on M; values: (n,) numbers summed, so
    three for a pixel of M. NaN where no pixel counts, and where y is no nearer to x than x' is: then the simulator is
    so far off that the quotient has no meaning.
    """
    total = float(np.sum(values))
    if total == 0:
        return float("nan")
    right, wrong, base = (_psnr(float(np.sum(errors)) / total) for errors in (own, crossed, apart))
    return float((right - wrong) / (right - base)) if right > base else float("nan")


def macro_f1(truth: np.ndarray, guess: np.ndarray) -> float:
    """Mean over the classes that occur in `truth` (n,) of the F1 of `guess` (n,), in [0, 1]; NaN without any row."""
    scores = []
    for name in np.unique(truth):
        hits = np.sum((truth == name) & (guess == name))
        scores.append(2 * hits / (np.sum(truth == name) + np.sum(guess == name)))
    return float(np.mean(scores)) if scores else float("nan")


def event_hits(said: np.ndarray, truth: np.ndarray, *, within: int = 1) -> np.ndarray:
    """For each row of two (n, T) arrays of events: hits, events said and true events, (n, 3) int.

    An event is a value other than 0. It hits where the other array has the same value at most `within` steps away;
    each true event can be hit once, the earliest first.
    """
    counts = np.zeros((len(truth), 3), int)
    for row, (own, real) in enumerate(zip(said, truth, strict=True)):
        left = list(np.flatnonzero(real))
        for t in np.flatnonzero(own):
            near = [u for u in left if abs(int(u) - int(t)) <= within and real[u] == own[t]]
            if near:
                left.remove(near[0])
                counts[row, 0] += 1
        counts[row, 1:] = np.count_nonzero(own), np.count_nonzero(real)
    return counts


def event_f1(counts: np.ndarray) -> float:
    """F1 of events, in [0, 1], from what `event_hits` gave, pooled over rows; NaN where none was said and none true."""
    hits, said, true = np.sum(counts, axis=0)
    return float(2 * hits / (said + true)) if said + true else float("nan")


def determination(truth: np.ndarray, guess: np.ndarray) -> float:
    """Coefficient of determination R^2 of guesses (n,), 1 for perfect, 0 for the mean; NaN rows of truth do not count.

    NaN where what is left does not vary.
    """
    known = ~np.isnan(truth)
    spread = np.square(truth[known] - truth[known].mean()).sum() if known.any() else 0.0
    return float(1 - np.square(truth[known] - guess[known]).sum() / spread) if spread > 0 else float("nan")


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation of two (n,) series over the rows where both are known; NaN where either does not vary."""
    known = ~(np.isnan(one) | np.isnan(other))
    pair = one[known], other[known]
    if known.sum() < 2 or min(np.ptp(series) for series in pair) == 0:
        return float("nan")
    return float(np.corrcoef(*pair)[0, 1])


def apart_by(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Greatest distance in x or y of two tracks (..., T, 2) at each step, (..., T) pixels; NaN where one is unseen."""
    return np.abs(one - other).max(axis=-1)


def onset_steps(distance: np.ndarray, *, pixels: float) -> np.ndarray:
    """First step, from 1, at which two branches are over `pixels` apart, (n,) int; T + 1 where they never are.

    distance: (n, T) pixels as `apart_by` gives them. An unseen sprite is not apart.
    """
    over = distance > pixels
    return np.where(over.any(axis=1), over.argmax(axis=1) + 1, distance.shape[1] + 1)


def _psnr(error: float) -> float:
    return 10.0 * np.log10(PEAK**2 / max(error, MSE_FLOOR))
