"""Windows of pygame: the display, key names, sharp pictures, and a bare window that shows frames."""

from __future__ import annotations

import os
import sys
import warnings

import numpy as np

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
try:
    import pygame
except ModuleNotFoundError:
    raise ModuleNotFoundError('a window needs pygame: pip install "worldsim[play]"', name="pygame") from None

BACKGROUND = (13, 16, 21)


class NoDisplay(RuntimeError):
    """There is no screen to open a window on."""


def open_display() -> None:
    """Start pygame's display and fonts; NoDisplay with the reason where there is no screen."""
    asked = os.environ.get("SDL_VIDEODRIVER", "")
    if sys.platform.startswith("linux") and not asked and not _has_screen():
        raise NoDisplay("DISPLAY and WAYLAND_DISPLAY are not set")
    try:
        pygame.display.init()
        pygame.font.init()
    except pygame.error as error:
        raise NoDisplay(str(error)) from None
    if not asked and pygame.display.get_driver() in ("dummy", "offscreen"):
        pygame.display.quit()
        raise NoDisplay("the video driver found no screen")
    if pygame.display.get_driver() == "x11":
        # SDL's own way, through OpenGL, takes 15 ms a picture and both cores where that is drawn in software; this 0.5.
        os.environ.setdefault("SDL_FRAMEBUFFER_ACCELERATION", "0")


def key_code(name: str) -> int:
    """pygame's code of a key name such as "left" or "space"; ValueError where there is no such key."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # without a window these are the codes of a US keyboard
            return pygame.key.key_code(name)
    except ValueError:
        raise ValueError(f"unknown key name {name!r}; use pygame's names, such as 'left', 'space' or 'a'") from None


def key_name(name: str) -> str:
    """The name under which a pressed key is heard, for any that pygame knows it by: "page up" for "pageup"."""
    return pygame.key.name(key_code(name))


class Viewer:
    """A bare window that shows frames at their own rate: an environment's render mode "human".

    title: of the window; shape: (H, W) of a frame; fps: at which `show` returns at most.
    """

    def __init__(self, title: str, shape: tuple[int, int], fps: int) -> None:
        open_display()
        height, width = (side * scale_for_desktop(shape) for side in shape)
        self._screen = pygame.display.set_mode((width, height), pygame.RESIZABLE)
        pygame.display.set_caption(title)
        self._clock, self._fps = pygame.time.Clock(), fps

    def show(self, frame: np.ndarray) -> None:
        """Show a frame (H, W, 3) uint8, then wait for the next one's time."""
        pygame.event.pump()
        self._screen.fill(BACKGROUND)
        blit_sharp(self._screen, frame, self._screen.get_rect())
        pygame.display.flip()
        self._clock.tick(self._fps)

    def left(self) -> bool:
        """Whether somebody wants to leave: has pressed Escape or closed the window since the last call."""
        return any(
            event.type == pygame.QUIT or (event.type == pygame.KEYDOWN and event.key == pygame.K_ESCAPE)
            for event in pygame.event.get()
        )

    def close(self) -> None:
        """Close the window."""
        pygame.display.quit()


def scale_for_desktop(shape: tuple[int, int]) -> int:
    """The scale at which a frame (H, W) fills about two thirds of the screen, at most 960 pixels high."""
    width, height = pygame.display.get_desktop_sizes()[0]
    return max(1, min(min(height * 2 // 3, 960) // shape[0], width * 2 // 3 // shape[1]))


def keep_on_screen(width: int) -> None:
    """Move the window to the left where it has grown so wide that it leaves the first screen."""
    x, y = pygame.display.get_window_position()
    most = pygame.display.get_desktop_sizes()[0][0]
    if x < most < x + width:
        pygame.display.set_window_position((max((most - width) // 2, 0), y))


def blit_sharp(screen: pygame.Surface, frame: np.ndarray, field: pygame.Rect) -> pygame.Rect:
    """Draw a frame in the middle of a field, as large as fits with each pixel a square of whole screen pixels.

    Returns where it is.
    """
    height, width = frame.shape[:2]
    scale = max(1, min(field.width // width, field.height // height))
    small = pygame.image.frombuffer(np.ascontiguousarray(frame), (width, height), "RGB").convert(screen)
    place = pygame.Rect(0, 0, width * scale, height * scale)
    place.center = field.center
    if not screen.get_rect().contains(place):
        return screen.blit(pygame.transform.scale(small, place.size), place)
    pygame.transform.scale(small, place.size, screen.subsurface(place))  # without a large picture in between
    return place


def _has_screen() -> bool:
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
