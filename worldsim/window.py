"""The pygame window of the player: keys in, the game's picture and a panel of figures beside it out."""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import dataclass

import numpy as np

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
try:
    import pygame
except ModuleNotFoundError:
    raise ModuleNotFoundError('a window needs pygame: pip install "worldsim[play]"', name="pygame") from None

BACKGROUND = (13, 16, 21)
SURFACE = (24, 29, 37)
TEXT = (240, 243, 246)
MUTED = (158, 170, 184)
ACCENT = (255, 186, 73)
LINE = (52, 60, 72)

COMMANDS = {
    "p": "pause", "r": "reset", "n": "single", "h": "help", "f": "panel", "escape": "quit", "q": "quit",
    "1": "1", "2": "2", "4": "4",
}  # fmt: skip
HELP = (
    ("P", "pause"), ("N", "one frame, while paused"), ("R", "new round"), ("1  2  4", "denoising steps"),
    ("H", "hide these keys"), ("F", "hide this panel"), ("Esc", "quit"),
)  # fmt: skip
ARROWS = {"up": (1, 0), "left": (0, 1), "down": (1, 1), "right": (2, 1)}  # column and row of the cap


@dataclass(frozen=True)
class Keys:
    """What the player did since the last look: key names held or tapped, and commands in the order given."""

    held: frozenset[str] = frozenset()
    commands: tuple[str, ...] = ()


@dataclass(frozen=True)
class Status:
    """What the window says beside the picture; figures that are not measured yet are None."""

    mode: str
    """One of "play", "pause", "over"."""
    score: float
    step: int
    steps: int
    seed: int
    held: frozenset[str]
    game_fps: float
    """Present speed of the game; `full_fps` is its own."""
    full_fps: float
    model_fps: float | None = None
    """Speed of the network alone: paint and commit."""
    latency_ms: tuple[float, float] | None = None
    """Median and 95th percentile from reading the keys to the frame on the screen."""

    def rows(self) -> tuple[tuple[str, str], ...]:
        """Label and value of each figure."""
        return (
            ("model", f"{self.model_fps:.0f} frames/s" if self.model_fps else "-"),
            ("game", f"{self.game_fps:.1f} frames/s ({self.game_fps / self.full_fps:.0%})"),
            ("keys to picture, p50", f"{self.latency_ms[0]:.0f} ms" if self.latency_ms else "-"),
            ("keys to picture, p95", f"{self.latency_ms[1]:.0f} ms" if self.latency_ms else "-"),
            ("denoising steps", f"{self.steps}"),
            ("frame", f"{self.step}"),
            ("seed", f"{self.seed}"),
        )

    def words(self) -> tuple[str, bool]:
        """The line under the picture, and whether it should stand out."""
        if self.mode == "over":
            return f"Round over at {self.score:+g} - press R for a new one", True
        if self.mode == "pause":
            return "Paused - P goes on, N paints one frame", True
        return "P pause   R new round   H keys   F panel   Esc quit", False


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


def key_code(name: str) -> int:
    """pygame's code of a key name such as "left" or "space"; ValueError where there is no such key."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # without a window these are the codes of a US keyboard
            return pygame.key.key_code(name)
    except ValueError:
        raise ValueError(f"unknown key name {name!r}; use pygame's names, such as 'left', 'space' or 'a'") from None


class Viewer:
    """A bare window that shows frames at their own rate: an environment's render mode "human".

    title: of the window; shape: (H, W) of a frame; fps: at which `show` returns at most.
    """

    def __init__(self, title: str, shape: tuple[int, int], fps: int) -> None:
        open_display()
        height, width = (side * _scale_for_desktop(shape) for side in shape)
        self._screen = pygame.display.set_mode((width, height), pygame.RESIZABLE)
        pygame.display.set_caption(title)
        self._clock, self._fps = pygame.time.Clock(), fps

    def show(self, frame: np.ndarray) -> None:
        """Show a frame (H, W, 3) uint8, then wait for the next one's time."""
        pygame.event.pump()
        self._screen.fill(BACKGROUND)
        _blit_sharp(self._screen, frame, self._screen.get_rect())
        pygame.display.flip()
        self._clock.tick(self._fps)

    def close(self) -> None:
        """Close the window."""
        pygame.display.quit()


class Window:
    """The player's window: the game's picture, a panel right of it and a line of words under it.

    title: the world's name; shape: (H, W) of a frame; key_names: the keys that play; scale: screen pixels a game
    pixel at first, None for one that suits the screen; later the window's size decides.
    """

    def __init__(
        self, title: str, shape: tuple[int, int], key_names: tuple[str, ...], *, scale: int | None = None
    ) -> None:
        open_display()
        self._title, self._shape, self._key_names = title, shape, key_names
        height, width = (side * (scale or _scale_for_desktop(shape)) for side in shape)
        self._unit = min(max(height / 512, 1.0), 1.5)
        size = (width + self._panel_width(), max(height, self._px(512)) + self._px(36))
        self._screen = pygame.display.set_mode(size, pygame.RESIZABLE)
        pygame.display.set_caption(f"worldsim: {title}")
        self._fonts: dict[int, pygame.font.Font] = {}
        self._held: set[str] = set()
        self._help = self._panel_shown = True
        self._drawn: tuple | None = None

    def poll(self) -> Keys:
        """The keys held now, or tapped since the last call, and the commands given since then, in order."""
        tapped, commands = set(), []
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                commands.append("quit")
            elif event.type == pygame.WINDOWFOCUSLOST:
                self._held.clear()
            elif event.type == pygame.KEYUP:
                self._held.discard(pygame.key.name(event.key))
            elif event.type == pygame.KEYDOWN:
                name = pygame.key.name(event.key)
                if name in self._key_names:
                    self._held.add(name)
                    tapped.add(name)
                elif name in COMMANDS:
                    commands.append(COMMANDS[name])
            elif event.type in (pygame.VIDEORESIZE, pygame.WINDOWEXPOSED):
                self._drawn = None
        self._toggle(commands)
        return Keys(frozenset(self._held | tapped), tuple(commands))

    def show(self, frame: np.ndarray, status: Status) -> None:
        """Show a frame (H, W, 3) uint8 and the figures beside it; returns when both are on the screen."""
        picture, panel, words = self._layout()
        if self._drawn != (status, self._help, self._panel_shown, self._screen.get_size()):
            self._screen.fill(BACKGROUND)
            if self._panel_shown:
                self._draw_panel(panel, status)
            self._draw_words(words, status)
            self._drawn = (status, self._help, self._panel_shown, self._screen.get_size())
        _blit_sharp(self._screen, frame, picture)
        pygame.display.flip()

    def close(self) -> None:
        """Close the window."""
        pygame.display.quit()

    def _toggle(self, commands: list[str]) -> None:
        for command in commands:
            if command == "help":
                self._help = not self._help
            elif command == "panel":
                self._panel_shown = not self._panel_shown

    def _layout(self) -> tuple[pygame.Rect, pygame.Rect, pygame.Rect]:
        """The picture's field, the panel and the line of words under both."""
        width, height = self._screen.get_size()
        line = self._px(36)
        panel = self._panel_width() if self._panel_shown else 0
        field = pygame.Rect(0, 0, max(width - panel, 1), max(height - line, 1))
        return field, pygame.Rect(field.right, 0, panel, field.height), pygame.Rect(0, field.bottom, width, line)

    def _draw_panel(self, panel: pygame.Rect, status: Status) -> None:
        pygame.draw.rect(self._screen, SURFACE, panel)
        inner = panel.inflate(-2 * self._px(20), -2 * self._px(16))
        y = self._text(self._title, 30, TEXT, inner.topleft)
        y = self._text("painted by a neural network", 15, MUTED, (inner.left, y))
        y = self._text("SCORE", 15, MUTED, (inner.left, y + self._px(12)))
        y = self._text(f"{status.score:+g}" if status.score else "0", 48, ACCENT, (inner.left, y)) + self._px(4)
        for label, value in status.rows():
            self._text(value, 18, TEXT, (inner.right, y), right=True)
            y = self._text(label, 18, MUTED, (inner.left, y)) + self._px(3)
        y = self._draw_caps(inner, y + self._px(10), status.held)
        if self._help:
            self._draw_help(inner, y + self._px(12))

    def _draw_help(self, inner: pygame.Rect, y: int) -> None:
        pygame.draw.line(self._screen, LINE, (inner.left, y), (inner.right, y))
        y += self._px(10)
        for key, meaning in HELP:
            self._text(key, 16, TEXT, (inner.left, y))
            y = self._text(meaning, 16, MUTED, (inner.left + self._px(64), y)) + self._px(2)

    def _draw_caps(self, inner: pygame.Rect, y: int, held: frozenset[str]) -> int:
        """The playing keys, those held now lit. Returns the y under them."""
        side, gap = self._px(30), self._px(4)
        arrows = [name for name in self._key_names if name in ARROWS]
        for name in arrows:
            column, row = ARROWS[name]
            cap = pygame.Rect(inner.left + column * (side + gap), y + row * (side + gap), side, side)
            self._draw_cap(cap, name, name in held)
        left = inner.left + (3 * (side + gap) + gap if arrows else 0)
        x, top = left, y + (side + gap if arrows else 0)
        for name in (name for name in self._key_names if name not in ARROWS):
            width = max(side, self._font(16).size(name)[0] + 4 * gap)
            if x + width > inner.right:
                x, top = left, top + side + gap
            self._draw_cap(pygame.Rect(x, top, width, side), name, name in held)
            x += width + gap
        return top + side

    def _draw_cap(self, cap: pygame.Rect, name: str, lit: bool) -> None:
        radius = self._px(5)
        pygame.draw.rect(self._screen, ACCENT if lit else BACKGROUND, cap, border_radius=radius)
        pygame.draw.rect(self._screen, ACCENT if lit else LINE, cap, width=max(self._px(1), 1), border_radius=radius)
        ink = BACKGROUND if lit else TEXT
        if name not in ARROWS:
            label = self._font(16).render(name, True, ink)
            self._screen.blit(label, label.get_rect(center=cap.center))
            return
        turn = {"right": 0, "up": 90, "left": 180, "down": 270}[name]
        corners = (pygame.Vector2(corner).rotate(-turn) * self._px(6) for corner in ((1, 0), (-0.8, -1), (-0.8, 1)))
        pygame.draw.polygon(self._screen, ink, [corner + cap.center for corner in corners])

    def _draw_words(self, words: pygame.Rect, status: Status) -> None:
        message, urgent = status.words()
        label = self._font(18).render(message, True, ACCENT if urgent else MUTED)
        self._screen.blit(label, label.get_rect(midleft=(words.left + self._px(16), words.centery)))

    def _text(self, text: str, size: int, colour: tuple, at: tuple[int, int], *, right: bool = False) -> int:
        """Write one line; `at` is its top left, or top right, corner. Returns the y under it."""
        label = self._font(size).render(text, True, colour)
        rect = label.get_rect(topright=at) if right else label.get_rect(topleft=at)
        self._screen.blit(label, rect)
        return rect.bottom

    def _font(self, size: int) -> pygame.font.Font:
        if size not in self._fonts:
            self._fonts[size] = pygame.font.Font(None, self._px(size))
        return self._fonts[size]

    def _px(self, units: float) -> int:
        return round(units * self._unit)

    def _panel_width(self) -> int:
        return self._px(300)


def _has_screen() -> bool:
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _scale_for_desktop(shape: tuple[int, int]) -> int:
    """The scale at which a frame (H, W) fills about two thirds of the screen, at most 960 pixels high."""
    width, height = pygame.display.get_desktop_sizes()[0]
    return max(1, min(min(height * 2 // 3, 960) // shape[0], width * 2 // 3 // shape[1]))


def _blit_sharp(screen: pygame.Surface, frame: np.ndarray, field: pygame.Rect) -> None:
    """Draw a frame in the middle of a field, as large as fits with each pixel a square of whole screen pixels."""
    height, width = frame.shape[:2]
    scale = max(1, min(field.width // width, field.height // height))
    small = pygame.image.frombuffer(np.ascontiguousarray(frame), (width, height), "RGB")
    large = pygame.transform.scale(small, (width * scale, height * scale))
    screen.blit(large, large.get_rect(center=field.center))
