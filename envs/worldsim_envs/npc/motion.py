"""A reader of gestures from the motion of one point: a pointer, a stick, a hand."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

STILL_S, STILL_EXTENT = 0.15, 0.03
"""A point is still when it has kept within so much of the picture for so long."""
SWING = 0.06
"""Way back, in widths or heights, that counts as a turn."""
LEAST = 0.15
"""Extent below which a motion means nothing."""
TURNS = 3
"""Turns that make a wave or a threat."""
QUICK_S = 0.25
"""A stroke that is over sooner is a blow."""
MEMORY_S = 3.0

MEANINGS = {
    "wave": "from side to side, two swings there and back",
    "threaten": "up and down, two swings",
    "bow": "down and up again, then still",
    "strike": "sideways in less than a quarter of a second, then still",
    "give": "sideways slowly, then still",
    "guard": "up, then still",
}
"""Gesture -> the motion that means it."""

Point = tuple[float, float, float]
"""(seconds, x, y): x to the right and y down, both in [0, 1] of the picture."""


class MotionReader:
    """Reads gestures while the point moves: a wave or a threat at its third turn, all others when the point is still.

    `began_s`: when the motion of the last gesture began.
    """

    def __init__(self) -> None:
        self._points: deque[Point] = deque()
        self._told = False
        self.began_s = 0.0

    def feed(self, seconds: float, x: float, y: float) -> str | None:
        """The gesture that this point completes, or None. seconds: of a clock that goes forward.

        Raises ValueError for a point outside [0, 1] or a clock that goes back.
        """
        self._check(seconds, x, y)
        self._points.append((seconds, x, y))
        while self._points[0][0] < seconds - MEMORY_S:
            self._points.popleft()
        gesture = self._moving()
        if self._is_still(seconds):
            gesture = gesture or self._stopped()
            self._forget(seconds)
        elif gesture is not None:
            self._told = True
        return gesture

    def _moving(self) -> str | None:
        if self._told:
            return None
        for name, axis, other in (("wave", 1, 2), ("threaten", 2, 1)):
            if self._turns(axis) >= TURNS and self._extent(axis) >= max(LEAST, self._extent(other)):
                self.began_s = self._began()
                return name
        return None

    def _stopped(self) -> str | None:
        """What the motion that has just ended meant."""
        wide, high = self._extent(1), self._extent(2)
        if self._told or max(wide, high) < LEAST:
            return None
        self.began_s = self._began()
        if wide > high:
            quick = self._points[-1][0] - STILL_S - self.began_s < QUICK_S
            return None if self._turns(1) else "strike" if quick else "give"
        rises = self._points[0][2] - min(point[2] for point in self._points)
        if not self._turns(2):
            return "guard" if rises >= LEAST else None
        return "bow" if self._turns(2) == 1 and rises < SWING else None

    def _is_still(self, seconds: float) -> bool:
        if seconds - self._points[0][0] < STILL_S:
            return False
        late = [point for point in self._points if point[0] >= seconds - STILL_S]
        return max(max(axis) - min(axis) for axis in list(zip(*late, strict=True))[1:]) < STILL_EXTENT

    def _forget(self, seconds: float) -> None:
        """Keep only the still end, from which the next motion begins."""
        self._points = deque(point for point in self._points if point[0] >= seconds - STILL_S)
        self._told = False

    def _began(self) -> float:
        """Time of the last point before the motion left its beginning."""
        first = self._points[0]
        near = first[0]
        for seconds, x, y in self._points:
            if max(abs(x - first[1]), abs(y - first[2])) >= STILL_EXTENT:
                break
            near = seconds
        return near

    def _extent(self, axis: int) -> float:
        values = [point[axis] for point in self._points]
        return max(values) - min(values)

    def _turns(self, axis: int) -> int:
        return count_turns([point[axis] for point in self._points])

    def _check(self, seconds: float, x: float, y: float) -> None:
        if not (0.0 <= x <= 1.0 and 0.0 <= y <= 1.0 and math.isfinite(seconds)):
            raise ValueError(f"point ({seconds}, {x}, {y}) leaves the picture; x and y are in [0, 1]")
        if self._points and seconds < self._points[-1][0]:
            raise ValueError(f"point at {seconds} s comes after one at {self._points[-1][0]} s; feed them in order")


def count_turns(values: Sequence[float]) -> int:
    """How often a sequence turns back by `SWING` or more; smaller wobbles do not count."""
    low = high = values[0]
    way = turns = 0
    for value in values:
        if way >= 0 and value < high - SWING:
            turns, way, low = turns + (way > 0), -1, value
        elif way <= 0 and value > low + SWING:
            turns, way, high = turns + (way < 0), 1, value
        low, high = min(low, value), max(high, value)
    return turns
