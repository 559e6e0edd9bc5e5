"""Checks of what callers give, shared by all kinds of worlds; they need no torch."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np


def is_whole(value: object) -> bool:
    """Whether a value is a whole number, Python's or numpy's, and not a truth value."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def checked_steps(steps: int, choices: Collection[int]) -> int:
    """A number of denoising steps that is among a world's choices; ValueError in one line for any other."""
    if not is_whole(steps) or steps not in choices:
        raise ValueError(f"steps={steps!r}; this world paints in {', '.join(map(str, choices))} denoising steps")
    return int(steps)
