"""The clock of the game."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable

EARLY = 0.4
"""Share of a period by which a key may bring a frame forward, so that its answer need not wait for the tick."""
REPAY = 0.05
"""Share of a period by which frames after an early one come slower, until they meet their ticks again."""
DEBT = 0.5
"""Share of a period by which a frame may begin late and move no later tick; a longer stall moves them all."""
LATE_SHARE = 0.005
"""Share of late frames at which the room that a frame is given stays; with more of them it grows, with fewer it shrinks
to what a frame takes."""
WIDER = 0.02
"""Share by which a late frame widens the room."""
WIDEST = 1.4
"""Most room that late frames win, in times of what a frame takes. At full speed a quick model has more anyway: frames
that are late there were kept waiting by other programs, which a slower game would not escape."""


class Pacer:
    """Full speed where the machine keeps up, smoothly slower where it does not; `period_s` says what it can hold.

    Frames begin at the ticks of a clock that stands still for no small delay. fps: full speed, frames per second.
    """

    def __init__(
        self, fps: float, *, now: Callable[[], float] = time.perf_counter, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.fps = fps
        self.period_s = 1 / fps
        """Time from one frame to the next at the present speed."""
        self._now, self._sleep = now, sleep
        self._worked_s: deque[float] = deque(maxlen=15)
        self._painted_s: deque[float] = deque(maxlen=15)
        self._room = 1.0
        self._tick = now()
        self._begun = self._tick - self.period_s

    def wait(self, pressed: Callable[[float], bool]) -> None:
        """Sleep until the next frame is due: at its tick, or where a key changes up to EARLY of a period before it.

        pressed: waits until a key has changed since the last frame began, at most so many seconds.
        """
        earliest = max(self._tick, self._begun + self.period_s) - EARLY * self.period_s
        if (rest := earliest - self._now()) > 0:
            self._sleep(rest)
        due = min(self._tick, self._begun + (1 + REPAY) * self.period_s)
        if (rest := due - self._now()) > 0:
            pressed(rest)
        self._begun = self._now()
        stalled = self._begun - self._tick > DEBT * self.period_s
        self._tick = (self._begun if stalled else self._tick) + self.period_s

    def painted(self) -> float:
        """Take note that the frame is painted; returns when it is due on the screen.

        One that is ready sooner than the slower ones waits as long as those take, but for the slowest of the last 15,
        so that a slow one after it does not seem late.
        """
        self._painted_s.append(self._now() - self._begun)
        return self._begun + sorted(self._painted_s)[-2:][0]

    def worked(self, seconds: float) -> None:
        """Take note of how long a frame took. One slow frame changes nothing, a slow model slows the game gently."""
        self._worked_s.append(seconds)
        needed = max(1 / self.fps, self._room * statistics.median(self._worked_s))
        self.period_s += 0.2 * (needed - self.period_s)

    def shown(self, late: bool) -> None:
        """Take note of whether a frame came late to the screen.

        The steps up and down balance at LATE_SHARE, as in stochastic approximation of a quantile (Robbins and Monro,
        A stochastic approximation method, 1951).
        """
        step = WIDER if late else -WIDER * LATE_SHARE / (1 - LATE_SHARE)
        self._room = min(max(self._room * (1 + step), 1.0), WIDEST)

    def retime(self, fps: float) -> None:
        """Play at another full speed from the next frame on."""
        self.fps, self.period_s = fps, 1 / fps
        self._tick = min(self._tick, self._begun + self.period_s)
        self._worked_s.clear()
