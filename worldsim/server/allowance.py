"""A bound on how often something may happen."""

from __future__ import annotations

import time
from collections.abc import Callable


class Allowance:
    """So many times a second on average, and `burst` at once. now: a clock in seconds."""

    def __init__(self, per_s: float, burst: int, now: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._burst, self._now = per_s, burst, now
        self._left, self._at = float(burst), now()

    def take(self) -> bool:
        """Use it once; False where it is used up."""
        now = self._now()
        self._left = min(self._left + (now - self._at) * self._per_s, self._burst)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
