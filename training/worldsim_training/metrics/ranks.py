"""Agreement of two rankings, as pure functions of scores."""

from __future__ import annotations

import numpy as np


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks (N,) from 1 of values (N,), equal ones sharing their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return (last - (counts - 1) / 2)[place.reshape(-1)]


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Rank correlation in [-1, 1] of two scores (N,) (Spearman 1904, with ties); NaN where all of one are equal."""
    one, other = (each - each.mean() for each in (ranks(first), ranks(second)))
    scale = np.sqrt((one @ one) * (other @ other))
    return float(one @ other / scale) if scale else float("nan")


def mean_maximum_rank_violation(real: np.ndarray, imagined: np.ndarray) -> float:
    """MMRV (SIMPLER, arXiv 2405.05941, eq. 2), in the unit of `real`: the mean over policies i of the largest
    |real_i - real_j| over those j that `imagined` puts on the other side of i."""
    apart = np.abs(real[:, None] - real[None])
    flipped = (real[:, None] < real[None]) != (imagined[:, None] < imagined[None])
    return float(np.where(flipped, apart, 0.0).max(axis=1).mean())
