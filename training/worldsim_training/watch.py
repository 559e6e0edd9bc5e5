"""Imagined rollouts as a player sees them: a stretch at a time, up to the end that the world itself says.

What a world paints after an end is shown to nobody and has no counterpart in the real game. It is judged all the same,
for a world that says ends too soon would hide in them, but what a player saw is told apart.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from worldsim_training.collapse import BLOCK, Signs


class Watch:
    """One rollout. `signs` are those of all stretches, `shown` those of the stretches up to its end, `over` is whether
    it has ended, `end` holds its last 64 frames up to there, the real ones that it began with among them.

    read: the signs of frames (T, H, W, 3) uint8 that go on from an opening (K, H, W, 3), `stability.Judge.signs`.
    """

    def __init__(self, read: Callable[[np.ndarray, np.ndarray], Signs], opening: np.ndarray) -> None:
        self._read, self._opening = read, opening
        self.signs: list[Signs] = []
        self.shown: list[Signs] = []
        self.over = False
        self.end = opening

    def see(self, frames: np.ndarray, ended: np.ndarray) -> None:
        """The next stretch: frames (T, H, W, 3) uint8 and whether each is an end, (T,) bool.

        Of a stretch in which the end comes within 64 frames the last 64 are judged, or none where there are no 64.
        """
        self.signs.append(self._read(frames, self._opening))
        if self.over:
            return
        self.over = bool(ended.any())
        lived = frames[: int(ended.argmax()) + 1] if self.over else frames
        self.end = np.concatenate([self.end, lived[-BLOCK:]])[-BLOCK:].copy()
        if len(lived) == len(frames):
            self.shown.append(self.signs[-1])
        elif len(seen := lived if len(lived) >= BLOCK else self.end) >= BLOCK:
            self.shown.append(self._read(seen, self._opening))
