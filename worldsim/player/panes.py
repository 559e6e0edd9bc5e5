"""Several pictures beside each other as one, with a caption each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

GAP = 2
"""Game pixels between two panes."""
GROUND = (13, 16, 21)
GAIN = 2
"""By how much a difference is brightened."""


@dataclass(frozen=True, eq=False)
class Pane:
    """A picture (H, W, 3) uint8 and what to say of it."""

    caption: str
    frame: np.ndarray


def beside(panes: Sequence[Pane]) -> np.ndarray:
    """One picture (H, n W + (n - 1) GAP, 3) uint8 of n panes of one size."""
    gap = np.full((panes[0].frame.shape[0], GAP, 3), GROUND, np.uint8)
    parts = [part for pane in panes for part in (gap, pane.frame)]
    return np.concatenate(parts[1:], axis=1)


def difference(one: np.ndarray, other: np.ndarray) -> Pane:
    """Where two pictures (H, W, 3) uint8 differ, brightened on black, and how much, in decibels of PSNR."""
    apart = np.abs(one.astype(np.int16) - other)
    error = float(np.square(apart, dtype=np.float64).mean())
    told = f"{10 * np.log10(255**2 / error):.1f} dB PSNR" if error else "none"
    return Pane(f"difference: {told}", np.minimum(GAIN * apart, 255).astype(np.uint8))


def signed(score: float) -> str:
    """A score as it is shown."""
    return f"{score:+g}" if score else "0"
