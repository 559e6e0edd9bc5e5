"""Two futures of one past, side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from worldsim.player.panes import Pane, signed
from worldsim.player.session import Session


class Fork:
    """The future that the player does not hold; `swap` exchanges it for the one that he does."""

    def __init__(self, session: Session) -> None:
        self.other = session.fork()
        self._mine_is_left = True

    def paint(self, act: Callable[[np.ndarray], Any]) -> None:
        """The other future's next frame under what `act` chooses for its present one; `commit` must follow."""
        self._painted = not self.other.timeline.over
        if self._painted:
            self.other.paint(act(self.other.frame))

    def commit(self) -> None:
        """Remember the other future's frame."""
        if self._painted:
            self.other.commit()

    def swap(self, mine: Session) -> Session:
        """Give one future away for the other."""
        mine, self.other = self.other, mine
        self._mine_is_left = not self._mine_is_left
        return mine

    def panes(self, frame: np.ndarray, score: float, hands: str, others_hands: str) -> list[Pane]:
        """Both futures, each in its place. frame, score, hands: of the player's own; hands: who plays."""
        mine = Pane(f"{signed(score)}   {hands}", frame)
        told = f"{signed(self.other.timeline.score)}   {others_hands}" + (", over" if self.other.timeline.over else "")
        other = Pane(told, self.other.frame)
        return [mine, other] if self._mine_is_left else [other, mine]
