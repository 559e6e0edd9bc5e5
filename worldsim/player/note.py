"""What the player is told, for some seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

NOTE_S = 4


class Note:
    """The newest line."""

    def __init__(self) -> None:
        self._line, self._until = "", 0.0

    @property
    def line(self) -> str:
        """What there is to read now; empty after its time."""
        return self._line if time.monotonic() < self._until else ""

    def say(self, line: str) -> None:
        """Have this line read."""
        self._line, self._until = line, time.monotonic() + NOTE_S

    @contextmanager
    def errors(self) -> Iterator[None]:
        """What a player can do wrong in here is said, instead of raised."""
        try:
            yield
        except (ValueError, OSError, ImportError) as error:
            self.say(" ".join(str(error).split()))
