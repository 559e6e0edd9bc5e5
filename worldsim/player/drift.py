"""When there is time to look at the drift signal, which costs a network call."""

from __future__ import annotations

EVERY, SELDOM = 15, 300
"""Frames between two looks, and where no frame ever has room for one."""


class Drift:
    """Frames counted since the last look, and what a look costs."""

    def __init__(self) -> None:
        self._since, self._took_s = SELDOM, 0.0

    def is_due(self, needed_s: float, period_s: float) -> bool:
        """Count a frame; whether to look at it. needed_s: what this frame takes without, of `period_s`."""
        self._since += 1
        has_room = needed_s + self._took_s <= period_s
        return self._since >= (EVERY if has_room else SELDOM)

    def looked(self, seconds: float) -> None:
        """Take note of what a look took."""
        self._since, self._took_s = 0, seconds
