"""The last seconds of a round, painted again in the most steps a frame at a time, and their strip."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from worldsim.player.clip import write_strip
from worldsim.player.session import Session, most_steps


class Repaint:
    """Frames on their way beside the session, which stays as it is and must as long as this paints.

    frames: how many at least, where so many can be taken back.
    """

    def __init__(self, session: Session, frames: int) -> None:
        self._steps, self._timeline = most_steps(session.env), session.timeline
        self._coming = session.repaint(frames)
        self._indices: list[int] = []
        self._frames: list[np.ndarray] = []

    def paint(self) -> np.ndarray | None:
        """The next frame (H, W, 3) uint8; None where all are painted. ValueError in one line where there is none."""
        painted = next(self._coming, None)
        if painted is None:
            return None
        index, frame = painted
        self._indices.append(index)
        self._frames.append(frame)
        return frame

    @property
    def told(self) -> str:
        """How far it is."""
        return f"in {self._steps} steps, frame {self._indices[-1]} of {len(self._timeline)}"

    def write(self, strip: Path, title: str) -> None:
        """Write what was played and what was painted now, one above the other. title: of the world."""
        played = sorted({self._timeline.steps[index - 1] for index in self._indices})
        label = f"as played, {' or '.join(map(str, played))} steps"
        rows = {
            label: [self._timeline.frame(index) for index in self._indices],
            f"the same actions, {self._steps} steps": self._frames,
        }
        moments = f"frames {self._indices[0]} to {self._indices[-1]} of seed {self._timeline.seed}"
        write_strip(strip, rows, f"{title}, {moments}")
