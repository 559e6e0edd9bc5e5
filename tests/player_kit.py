"""Posted keys, and a player that is turned by hand on one thread."""

import numpy as np
import pygame

from worldsim.player.loop import Desk, Meter, look
from worldsim.player.status import Status


def press(*names):
    for name in names:
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.key.key_code(name)))


def release(*names):
    for name in names:
        pygame.event.post(pygame.event.Event(pygame.KEYUP, key=pygame.key.key_code(name)))


def tap(*names):
    press(*names)
    release(*names)


def status(**changed):
    usual = {"mode": "play", "score": 3.0, "step": 12, "steps": 2, "window_frames": 16, "seed": 7}
    return Status(**{**usual, "game_fps": 15.0, "full_fps": 15.0, **changed})


def picture(window):
    """The game's part of the screen, (H, W, 3), found by the window's own layout."""
    field, _, _ = window._layout()
    screen = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    return screen[field.top : field.bottom, field.left : field.right]


class Clock:
    """Time that only sleeping and working move."""

    def __init__(self):
        self.time_s = 0.0

    def now(self):
        return self.time_s

    def sleep(self, seconds):
        self.time_s += seconds


class Hand:
    """A game and its window on one thread: each turn looks at the keys, paints, then shows."""

    def __init__(self, game, window):
        self.game, self.window = game, window
        self.desk, self.meter = Desk(), Meter()
        self.shown = []

    def turn(self, *taps):
        tap(*taps)
        look(self.desk, self.window, self.meter, 0)
        self.game.turn(self.desk.take(), self._put)
        look(self.desk, self.window, self.meter, 0)
        return self.shown[-1][0]

    def turns(self, count):
        return [self.turn() for _ in range(count)]

    @property
    def note(self):
        return self.game.status().note

    def _put(self, frame, status):
        self.shown.append((frame, status))
        self.desk.put(frame, status)


def same(frames, others):
    return len(frames) == len(others) and all(
        np.array_equal(one, other) for one, other in zip(frames, others, strict=False)
    )


def files(hand, pattern):
    return sorted(hand.game._folders.clips.glob(pattern))
