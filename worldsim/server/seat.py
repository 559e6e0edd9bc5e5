"""One player's place at the server: the window of a game that a page looks through."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np

from worldsim.player import controls, loop
from worldsim.player.controls import Keys
from worldsim.player.game import Game, Status
from worldsim.player.loop import Figures
from worldsim.server import messages
from worldsim.server.messages import NUMBERED, Input, Shown

ON_THE_WAY = 2
"""Pictures sent that the page has not said it showed. Further ones give way to newer ones here, so that a slow page
sees fewer frames, never older ones: without this a connection's buffers alone hold minutes."""


class Seat:
    """What `loop.run` asks of a window, on the game's threads, and what a connection asks, on the server's.

    news: called from any thread whenever `next_message` may have something.
    """

    def __init__(self, news: Callable[[], None]) -> None:
        self._news = news
        self._lock = threading.Lock()
        self._held: frozenset[str] = frozenset()
        self._tapped: frozenset[str] = frozenset()
        self._commands: tuple[str, ...] = ()
        self._number = 0
        self.began_at: float | None = None
        """When its world was there, as `time.monotonic` tells it; None while it loads."""
        self._left = False
        self._hello: str | None = None
        self._error: str | None = None
        self._picture: bytes | None = None
        self._last = b""
        self._sent = self._shown = 0
        self._keys: tuple[str, ...] = ()

    # --- the game's threads ---

    def play(self, make_game: Callable[[], Game]) -> None:
        """Make the game and play it until the player leaves; raises what ended it otherwise."""
        game = make_game()
        try:
            self._keys = (*controls.key_names(game.env.actions), controls.REWIND)
            self.began_at = time.monotonic()
            self._hello = messages.hello(game.env, game.pacer.fps)
            self._news()
            loop.run(game, self)
        finally:
            game.env.close()

    def poll(self) -> Keys:
        """What is held now, and what was tapped or commanded since the last call."""
        with self._lock:
            held = self._held | {f"{NUMBERED}{self._number}"}
            keys = Keys(held, self._tapped, ("quit",) if self._left else self._commands)
            self._tapped, self._commands = frozenset(), ()
            return keys

    def show(self, frame: np.ndarray, status: Status, figures: Figures) -> None:
        """Have a frame (H, W, 3) uint8 ready for the page, instead of one that was not sent yet."""
        picture = messages.picture(frame, status)
        with self._lock:
            self._picture = None if picture == self._last else picture
        self._news()

    # --- the server's thread ---

    def hear(self, text: str) -> bool:
        """Take a message of the page; one that is wrong is answered by a line. Returns whether a player is at work."""
        try:
            message = messages.parse(text, self._keys)
            if isinstance(message, Shown):
                self._acknowledge(message.count)
                return False
            self._take(message)
        except ValueError as error:
            self._error = messages.error(str(error))
            self._news()
            return False
        return True

    def next_message(self) -> str | bytes | None:
        """What to send now; None for nothing."""
        with self._lock:
            if self._hello is not None:
                text, self._hello = self._hello, None
                return text
            if self._error is not None:
                text, self._error = self._error, None
                return text
            if self._picture is None or self._sent - self._shown >= ON_THE_WAY:
                return None
            self._last, self._picture = self._picture, None
            self._sent += 1
            return self._last

    def leave(self) -> None:
        """The player is gone: the game ends after the frame in work."""
        with self._lock:
            self._left = True

    def _take(self, message: Input) -> None:
        """The newest message says all that is held; a key that is let go at once still counts for one frame."""
        with self._lock:
            self._tapped |= message.held - self._held
            self._held, self._number = message.held, message.number
            self._commands = (self._commands + message.commands)[-messages.COMMANDS_MOST :]

    def _acknowledge(self, count: int) -> None:
        if not self._shown <= count <= self._sent:
            raise ValueError(f"{count} pictures shown of {self._sent} sent, after {self._shown}")
        with self._lock:
            self._shown = count
        self._news()
