"""The real game beside the imagined one, under the same actions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from worldsim.player.panes import Pane, difference, signed
from worldsim.player.session import Session
from worldsim.player.starts import Start


class Truth:
    """One round of the real game, as far as the imagined one was played.

    env: the source game with the face of a world, and `past`, the frames and actions up to where it stands.
    """

    def __init__(self, env) -> None:
        self._env = env
        self._session: Session | None = None

    def begin(self, seed: int, start: Start) -> Start:
        """Bring the real game to that start, or to a moment of its own where it does not know the way there.

        Returns where the imagined game is to begin: after the very frames that the real one has shown.
        """
        if start.real is None:
            start = Start("a moment of the real game", real={})
        self._session = Session(self._env, seed=seed, past=start.real or None)
        return replace(start, past=self._env.past)

    def follow(self, action: Any) -> None:
        """Play the action that the imagined game answers; nothing where the real game is over."""
        if not self._session.timeline.over:
            self._session.paint(action)
            self._session.commit()

    def back_to(self, length: int) -> None:
        """Take the real game back to so many actions."""
        self._session.back_to(min(length, len(self._session.timeline)))

    def panes(self, frame: np.ndarray, score: float, step: int) -> list[Pane]:
        """The imagined frame (H, W, 3) uint8 of that step, the real one, and their difference."""
        timeline = self._session.timeline
        step = min(step, len(timeline))
        real = timeline.frame(step)
        over = ", over" if timeline.over and step == len(timeline) else ""
        told = f"real {signed(sum(timeline.rewards[:step]))}{over}"
        return [Pane(f"imagined {signed(score)}", frame), Pane(told, real), difference(frame, real)]

    def close(self) -> None:
        """Release the real game."""
        self._env.close()
