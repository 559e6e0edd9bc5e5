"""The clock of the game."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable


class Pacer:
    """Full speed where the model keeps up, smoothly slower where it does not.

    A turn that came late moves all later ones; nothing is ever caught up. fps: full speed, frames per second.
    """

    def __init__(
        self, fps: float, *, now: Callable[[], float] = time.perf_counter, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.fps = fps
        self.period_s = 1 / fps
        """Time from one frame to the next at the present speed."""
        self._now, self._sleep = now, sleep
        self._worked_s: deque[float] = deque(maxlen=15)
        self._due = now()

    def wait(self) -> None:
        """Sleep until the next frame is due."""
        rest = self._due - self._now()
        if rest > 0:
            self._sleep(rest)
        self._due = max(self._due, self._now()) + self.period_s

    def worked(self, seconds: float) -> None:
        """Take note of how long a frame took. One slow frame changes nothing, a slow model slows the game gently."""
        self._worked_s.append(seconds)
        needed = max(1 / self.fps, statistics.median(self._worked_s))
        self.period_s += 0.2 * (needed - self.period_s)

    def retime(self, fps: float) -> None:
        """Play at another full speed from the next frame on."""
        self.fps, self.period_s = fps, 1 / fps
        self._worked_s.clear()
