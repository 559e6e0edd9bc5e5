"""Measures of distributions: of features of frames, and of how something moves.

Pure functions on arrays. A figure that has no meaning on what it was given is NaN, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

COMPONENTS = 32
LEAST_SHARE = 1e-6
"""A direction with less of the widest one's variance is no component: it would blow up rounding."""


@dataclass(frozen=True)
class Whitening:
    """Features (n, F) -> uncorrelated components of unit variance (n, K), of the rows that it was fitted on."""

    middle: np.ndarray
    matrix: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return (features - self.middle) @ self.matrix


def whitening(features: np.ndarray, *, components: int = COMPONENTS) -> Whitening:
    """The widest principal components of features (n, F), at most so many, each scaled to unit variance.

    ValueError where the features do not vary.
    """
    middle = features.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(features - middle, rowvar=False).reshape(features.shape[1], -1))
    kept = np.flatnonzero(values > LEAST_SHARE * max(values[-1], 0))[::-1][:components]
    if not len(kept):
        raise ValueError(f"{features.shape[1]} features of {len(features)} rows do not vary")
    return Whitening(middle, vectors[:, kept] / np.sqrt(values[kept]))


def frechet_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Frechet distance of the normal distributions with the means and covariances of rows (n, K) and (m, K).

    |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)) (Dowson and Landau 1982), in squared units of the features; 0 for equal
    ones. It grows as rows get fewer: compare it with that of two halves of real rows. NaN below two rows.
    """
    if min(len(one), len(other)) < 2:
        return float("nan")
    (mean, spread), (mean_, spread_) = (
        (rows.mean(axis=0), np.cov(rows, rowvar=False, ddof=0)) for rows in (one, other)
    )
    spread, spread_ = np.atleast_2d(spread), np.atleast_2d(spread_)
    root = _square_root(spread)
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ spread_ @ root), 0.0, None)).sum()
    return float(max(np.square(mean - mean_).sum() + np.trace(spread) + np.trace(spread_) - 2 * cross, 0.0))


def _square_root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric root of a symmetric matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T


def histogram_distance(
    moves: np.ndarray, cells: np.ndarray, other_moves: np.ndarray, other_cells: np.ndarray, *, least: int = 20
) -> float:
    """How differently two things move where they stand alike: total variation in [0, 1], 0 for the same habits.

    moves (n,), other_moves (m,): class of each move; cells (n,), other_cells (m,): class of each situation. Of every
    cell with at least `least` rows on both sides half the L1 distance of the shares of the moves, weighted by the rows
    of the first side. NaN where no cell has enough.
    """
    kinds, distances, weights = np.union1d(moves, other_moves), [], []
    for cell in np.intersect1d(cells, other_cells):
        own, theirs = moves[cells == cell], other_moves[other_cells == cell]
        if min(len(own), len(theirs)) >= least:
            shares = [np.array([np.mean(side == kind) for kind in kinds]) for side in (own, theirs)]
            distances.append(0.5 * np.abs(shares[0] - shares[1]).sum())
            weights.append(len(own))
    return float(np.average(distances, weights=weights)) if weights else float("nan")
