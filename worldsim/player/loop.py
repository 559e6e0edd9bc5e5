"""The two threads of the player: one paints frames, the other looks at keys and shows what was painted."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from worldsim.player.controls import Keys, joined
from worldsim.player.game import Game
from worldsim.player.status import Status

LOOK_S = 0.004
"""Longest time between two looks at the keys."""
REFRESH_S = 0.25  # figures that change faster cannot be read
LATE = 1.25
"""A frame is late that comes after more than so many periods of the speed that the game said it holds."""
EASE = 1.1
"""Most periods from one picture to the next that waits for its time on purpose: where a key was answered sooner, the
pictures after it come back to their times step by step."""


@dataclass(frozen=True)
class Picture:
    """A frame (H, W, 3) uint8 on its way to the screen."""

    frame: np.ndarray
    status: Status
    pressed_at: float | None
    """When the first key that it answers changed, or was seen; None where no key had changed."""
    due_at: float = 0.0
    """Time until which it waits for the screen, see `Pacer.painted`; it waits less after one that did not wait."""


class Desk:
    """Where the two threads meet: keys that wait for the next frame, and the newest picture.

    Neither queues. Keys are held or were tapped, and a command that names a state counts once however often it was
    given; a picture that was not shown in time gives way to the next.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._keys, self._pressed_at = Keys(), None
        self._picture: Picture | None = None
        self._answers: float | None = None
        self.pressed = threading.Event()
        """Set while a key has changed since the last take."""
        self.stopped = threading.Event()
        self.error: Exception | None = None

    def give(self, keys: Keys) -> None:
        """The screen's look at the keys."""
        with self._lock:
            old = self._keys
            if keys.tapped or keys.pushed != old.pushed:
                if self._pressed_at is None:
                    self._pressed_at = self._now() if keys.changed_at is None else keys.changed_at
                self.pressed.set()
            tapped, commands = old.tapped | keys.tapped, joined(old.commands, keys.commands)
            self._keys = replace(keys, tapped=tapped, commands=commands)

    def take(self) -> Keys:
        """Everything given since the last take, for the next frame."""
        with self._lock:
            keys = self._keys
            self._keys = replace(keys, tapped=frozenset(), commands=())
            self.pressed.clear()
            self._answers, self._pressed_at = self._pressed_at, None
            return keys

    def put(self, frame: np.ndarray, status: Status, due_at: float = 0.0) -> None:
        """The newest picture, to be shown from that time on; at once where it answers a key."""
        with self._lock:
            first, self._answers = self._answers, None
            if self._picture is not None and self._picture.pressed_at is not None:
                first = self._picture.pressed_at
            self._picture = Picture(frame, status, first, due_at if first is None else 0.0)
        self._news.set()

    def news(self, timeout_s: float) -> Picture | None:
        """The newest picture, as soon as there is one that was not shown yet; None after `timeout_s`."""
        self._news.wait(timeout_s)
        with self._lock:
            self._news.clear()
            picture, self._picture = self._picture, None
            return picture


@dataclass(frozen=True)
class Figures:
    """What was measured at the screen; None where there is nothing to measure yet."""

    shown_fps: float | None = None
    latency_ms: tuple[float, float] | None = None
    """Median and 95th percentile from a key change, as `Keys` tells it, to the frame that answers it on the screen."""
    late: float | None = None
    """Share of frames that came later after the one before than LATE periods of the speed the game said it holds."""


class Meter:
    """Times of the frames shown while playing. keep: latencies that count, the latest; None counts all."""

    def __init__(self, *, keep: int | None = 240) -> None:
        self._shown: deque[float] = deque(maxlen=60)
        self._latency_ms: deque[float] = deque(maxlen=keep)
        self._late, self._counted = 0, 0
        self._figures, self._due = Figures(), 0.0

    def shown(self, picture: Picture, now: float) -> bool | None:
        """Count a picture that is on the screen since `now` seconds; whether it is late, None where none was due."""
        if picture.status.mode != "play":
            self._shown.clear()
            return None
        late = (now - self._shown[-1]) * picture.status.game_fps > LATE if self._shown else None
        if late is not None:
            self._counted += 1
            self._late += late
        self._shown.append(now)
        if picture.pressed_at is not None:
            self._latency_ms.append(1000 * (now - picture.pressed_at))
        return late

    def due_at(self, picture: Picture) -> float:
        """Time before which a picture is not to be shown."""
        if not self._shown:
            return picture.due_at
        return min(picture.due_at, self._shown[-1] + EASE / picture.status.game_fps)

    def figures(self, now: float) -> Figures:
        """The figures, new a few times a second."""
        if now >= self._due:
            self._figures, self._due = self.measured(), now + REFRESH_S
        return self._figures

    @property
    def counted(self) -> int:
        """Frames that were shown in play, each with one before it."""
        return self._counted

    @property
    def answered(self) -> int:
        """Key changes whose latency counts."""
        return len(self._latency_ms)

    def measured(self) -> Figures:
        """The figures as they are now."""
        span_s = self._shown[-1] - self._shown[0] if len(self._shown) > 1 else 0
        latency = tuple(np.percentile(self._latency_ms, (50, 95)).tolist()) if self._latency_ms else None
        late = self._late / self._counted if self._counted else None
        return Figures((len(self._shown) - 1) / span_s if span_s else None, latency, late)


def run(game: Game, window, meter: Meter | None = None) -> Figures:
    """Play until the player quits; returns what was measured. The screen stays on the calling thread, as it must.

    window: offers `poll() -> Keys` and `show(frame, status, figures)`. An error while painting is raised here.
    """
    desk, meter = Desk(), meter or Meter()
    painter = threading.Thread(target=_paint, args=(game, desk), name="worldsim-painter", daemon=True)
    painter.start()
    try:
        while not desk.stopped.is_set():
            late = look(desk, window, meter, LOOK_S)
            if late is not None:
                game.pacer.shown(late)
    finally:
        desk.stopped.set()
        painter.join()
    if desk.error is not None:
        raise desk.error
    return meter.measured()


def look(desk: Desk, window, meter: Meter, timeout_s: float) -> bool | None:
    """One round of the screen's thread: the keys to the desk, the newest picture to the screen.

    Returns whether the picture came late; None where there was none, or none was due.
    """
    _hear(desk, window)
    picture = desk.news(timeout_s)
    if picture is None:
        return None
    due_at = meter.due_at(picture)
    while (rest := due_at - time.perf_counter()) > 0:
        time.sleep(min(rest, LOOK_S))
        _hear(desk, window)
    window.show(picture.frame, picture.status, meter.figures(time.perf_counter()))
    return meter.shown(picture, time.perf_counter())


def _hear(desk: Desk, window) -> None:
    keys = window.poll()
    if "quit" in keys.commands:
        desk.stopped.set()
    else:
        desk.give(keys)


def _paint(game: Game, desk: Desk) -> None:
    def put(frame: np.ndarray, status: Status) -> None:
        desk.put(frame, status, game.pacer.painted() if status.mode == "play" else 0.0)

    try:
        while not desk.stopped.is_set():
            game.pacer.wait(desk.pressed.wait)
            game.turn(desk.take(), put)
    except Exception as error:  # carried to the screen's thread, which raises it
        desk.error = error
    try:
        game.close()  # after an error, too: what was recorded until then is not lost
    except Exception as error:
        desk.error = desk.error or error
    finally:
        desk.stopped.set()
