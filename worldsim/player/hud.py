"""What the player's window draws beside and over the picture: figures, keys, help."""

from __future__ import annotations

from collections.abc import Sequence

import pygame

from worldsim.player.controls import REWIND
from worldsim.player.loop import Figures
from worldsim.player.status import Status
from worldsim.window import BACKGROUND

SURFACE = (24, 29, 37)
TEXT = (240, 243, 246)
MUTED = (158, 170, 184)
ACCENT = (255, 186, 73)
RED = (240, 84, 84)
LINE = (52, 60, 72)
HINT = "H keys   F figures   Tab pause   Backspace rewind   R record   Esc quit"
MARK = "   |   "
"""Between the state and a note."""
IMAGINED = ("network alone", "drift", "steps a frame", "memory", "save slot")
"""Figures of imagined games alone."""
LABELS = 256
"""Lines that are kept as they were written."""
ARROWS = {"up": (1, 0), "left": (0, 1), "down": (1, 1), "right": (2, 1)}  # column and row of the cap
LETTERS = {"w": (1, 0), "a": (0, 1), "s": (1, 1), "d": (2, 1)}


class Canvas:
    """A surface to write on, with lengths in units that grow with the window. unit: pixels a unit."""

    def __init__(self, surface: pygame.Surface, unit: float) -> None:
        self.surface, self.unit = surface, unit
        self._fonts: dict[float, pygame.font.Font] = {}
        self._labels: dict[tuple, pygame.Surface] = {}

    def px(self, units: float) -> int:
        """Pixels of a length."""
        return round(units * self.unit)

    def font(self, size: float) -> pygame.font.Font:
        """pygame's own typeface, so that a window looks alike on every machine."""
        if size not in self._fonts:
            self._fonts[size] = pygame.font.Font(None, self.px(size))
        return self._fonts[size]

    def label(self, text: str, size: float, colour: tuple) -> pygame.Surface:
        """One line, written anew only where it was not of late: most of a panel stays from frame to frame."""
        key = text, size, colour
        if key not in self._labels:
            if len(self._labels) >= LABELS:
                self._labels.clear()
            self._labels[key] = self.font(size).render(text, True, colour)
        return self._labels[key]

    def text(self, text: str, size: float, colour: tuple, at: tuple[int, int], *, right: bool = False) -> int:
        """Write one line; `at` is its top left, or top right, corner. Returns the y under it."""
        label = self.label(text, size, colour)
        rect = label.get_rect(topright=at) if right else label.get_rect(topleft=at)
        self.surface.blit(label, rect)
        return rect.bottom

    def fitted(self, text: str, size: int, width: int) -> str:
        """The text, with its middle left out where it is wider than so many pixels."""
        if self.font(size).size(text)[0] <= width:
            return text
        keep = len(text)
        while keep > 8 and self.font(size).size(text)[0] > width:
            keep -= 2
            text = f"{text[: keep // 2]}...{text[-(keep // 2) :]}"
        return text


def figure_rows(status: Status, figures: Figures) -> tuple[tuple[str, str], ...]:
    """Label and value of each figure; a dash where it is not measured yet."""
    latency = figures.latency_ms
    rows = (
        ("shown", f"{figures.shown_fps:.1f} frames/s" if figures.shown_fps else "-"),
        ("game", f"{status.game_fps:.1f} frames/s ({status.game_fps / status.full_fps:.0%})"),
        ("network alone", f"{status.model_fps:.0f} frames/s" if status.model_fps else "-"),
        ("key to picture, p50", f"{latency[0]:.0f} ms" if latency else "-"),
        ("key to picture, p95", f"{latency[1]:.0f} ms" if latency else "-"),
        ("late frames", f"{figures.late:.1%}" if figures.late is not None else "-"),
        ("drift", f"{status.doubt:.1f} grey levels" if status.doubt is not None else "-"),
        ("steps a frame", f"{status.steps}"),
        ("memory", f"{status.window_frames} frames"),
        ("frame", f"{status.step}"),
        ("seed", f"{status.seed}"),
        ("player", status.hands),
        ("save slot", f"{status.slot}"),
    )
    return tuple(row for row in rows if not (status.real and row[0] in IMAGINED))


def state_words(status: Status) -> tuple[str, str]:
    """What the game does now where it does not play, and what leads on from there; both empty where it plays."""
    return {
        "over": (f"Round over at {status.score:+g}", " - N for a new one, Backspace to take it back"),
        "pause": ("Paused", " - Tab goes on, . paints one frame"),
        "help": ("Paused", " - H puts the keys away"),
        "rewind": ("Rewinding", " - let Backspace go to play on from here"),
        "repaint": ("Repainting", " - Esc or P leaves it"),
    }.get(status.mode, ("", ""))


def words(canvas: Canvas, status: Status, note: str, width: int) -> str:
    """The line under the picture, at most so many pixels wide: the state is whole, the note has what room it leaves."""
    state, way_on = state_words(status)
    whole = MARK.join(filter(None, (state + way_on, note)))
    if not (state and note) or canvas.font(18).size(whole)[0] <= width:
        return canvas.fitted(whole or HINT, 18, width)
    return state + MARK + canvas.fitted(note, 18, width - canvas.font(18).size(state + MARK)[0])


def draw_panel(
    canvas: Canvas, panel: pygame.Rect, title: str, status: Status, figures: Figures, key_names: Sequence[str]
) -> None:
    """The panel of figures, and under them the playing keys."""
    pygame.draw.rect(canvas.surface, SURFACE, panel)
    inner = panel.inflate(-2 * canvas.px(20), -2 * canvas.px(16))
    y = canvas.text(title, 30, TEXT, inner.topleft)
    if status.recording:
        pygame.draw.circle(canvas.surface, RED, (inner.right - canvas.px(42), inner.top + canvas.px(11)), canvas.px(6))
        canvas.text("REC", 18, RED, (inner.right, inner.top + canvas.px(5)), right=True)
    y = canvas.text("the real game" if status.real else "painted by a neural network", 15, MUTED, (inner.left, y))
    y = canvas.text("SCORE", 15, MUTED, (inner.left, y + canvas.px(12)))
    y = canvas.text(f"{status.score:+g}" if status.score else "0", 48, ACCENT, (inner.left, y)) + canvas.px(4)
    for label, value in figure_rows(status, figures):
        canvas.text(value, 18, TEXT, (inner.right, y), right=True)
        y = canvas.text(label, 18, MUTED, (inner.left, y)) + canvas.px(3)
    _draw_caps(canvas, inner, y + canvas.px(14), key_names, status.held)


def draw_words(canvas: Canvas, line: pygame.Rect, status: Status, note: str = "") -> None:
    """The line under the picture. note: the window's own word, where the game has none."""
    note = status.note or note
    message = words(canvas, status, note, line.width - 2 * canvas.px(16))
    label = canvas.label(message, 18, ACCENT if note or state_words(status)[0] else MUTED)
    pygame.draw.rect(canvas.surface, BACKGROUND, line)
    canvas.surface.blit(label, label.get_rect(midleft=(line.left + canvas.px(16), line.centery)))


def draw_captions(canvas: Canvas, panes: Sequence[pygame.Rect], captions: Sequence[str]) -> None:
    """A caption above each pane, in the room that the window keeps there."""
    for pane, caption in zip(panes, captions, strict=True):
        text = canvas.fitted(caption, 18, pane.width)
        at = pane.left, max(pane.top - canvas.px(20), 0)
        label = canvas.label(text, 18, TEXT)
        pygame.draw.rect(canvas.surface, BACKGROUND, (*at, pane.width, label.get_height()))
        canvas.surface.blit(label, at)


Rows = Sequence[tuple[str, str]]
"""Keys and their meaning."""


def draw_help(canvas: Canvas, field: pygame.Rect, rows: Rows, commands: Rows) -> None:
    """The key map: what plays, from the world's own specification, then what commands; whole at any size.

    It lies in the middle of the picture's field, or of the window above the line of words where the field is too
    narrow: in one column, in two where that is too high, in smaller letters where those are too large.
    """
    window = pygame.Rect(0, 0, canvas.surface.get_width(), field.height)
    shares = (percent / 100 for percent in range(100, 9, -5))
    for card in (_Card(canvas, columns, share) for share in shares for columns in _columns(rows, commands)):
        if card.rect.width < window.width and card.rect.height < window.height:
            break
    card.rect.center = field.center if card.rect.width < field.width else window.center
    card.draw()


def _columns(rows: Rows, commands: Rows) -> tuple[list[list[tuple[str, str]]], ...]:
    """The lines of a card in one column, in two by their kind, in two of one length; a heading means nothing."""
    play, more = [("PLAY", ""), *rows], [("AND MORE", ""), *commands]
    both = [*play, ("", ""), *more]
    half = max(-(-len(both) // 2), len(play) + 3)
    return [both], [play, more], [both[:half], both[half:]]


class _Card:
    """Columns of keys and their meaning. share: size of the letters, of the usual ones."""

    def __init__(self, canvas: Canvas, columns: list[list[tuple[str, str]]], share: float) -> None:
        self._canvas, self._columns, self._share = canvas, columns, share
        self._widths = [[self._width(texts) for texts in zip(*lines, strict=True)] for lines in columns]
        width = sum(map(sum, self._widths)) + self._px(14 + 40) * len(columns)
        self.rect = pygame.Rect(0, 0, width, self._px(19) * max(map(len, columns)) + 2 * self._px(14))

    def draw(self) -> None:
        """Draw the card where `rect` lies now."""
        surface, line = self._canvas.surface, max(self._canvas.px(1), 1)
        pygame.draw.rect(surface, SURFACE, self.rect, border_radius=self._px(8))
        pygame.draw.rect(surface, LINE, self.rect, width=line, border_radius=self._px(8))
        x = self.rect.left + self._px(20)
        for lines, (keys, meanings) in zip(self._columns, self._widths, strict=True):
            y = self.rect.top + self._px(14)
            for key, meaning in lines:
                size, colour = (17, TEXT) if meaning else (15, ACCENT)
                self._canvas.text(key, size * self._share, colour, (x, y))
                self._canvas.text(meaning, 17 * self._share, MUTED, (x + keys + self._px(14), y))
                y += self._px(19)
            x += keys + meanings + self._px(14 + 40)

    def _px(self, units: float) -> int:
        return self._canvas.px(units * self._share)

    def _width(self, texts: Sequence[str]) -> int:
        return max(self._canvas.font(17 * self._share).size(text)[0] for text in texts)


def _draw_caps(canvas: Canvas, inner: pygame.Rect, y: int, names: Sequence[str], held: frozenset[str]) -> None:
    """The playing keys, those held now lit: crosses of keys as they lie on a keyboard, then the others."""
    side, gap = canvas.px(30), canvas.px(4)
    left, rest = inner.left, [*names, REWIND]
    for cross in (ARROWS, LETTERS):
        if not set(cross) <= set(names):
            continue
        for name, (column, row) in cross.items():
            cap = pygame.Rect(left + column * (side + gap), y + row * (side + gap), side, side)
            _draw_cap(canvas, cap, name, name in held)
        left += 3 * (side + gap) + 2 * gap
        rest = [name for name in rest if name not in cross]
    y += 2 * (side + gap) + gap if left > inner.left else 0
    x = inner.left
    for name in rest:
        width = max(side, canvas.font(16).size(name)[0] + 4 * gap)
        if x + width > inner.right:
            x, y = inner.left, y + side + gap
        _draw_cap(canvas, pygame.Rect(x, y, width, side), name, name in held)
        x += width + gap


def _draw_cap(canvas: Canvas, cap: pygame.Rect, name: str, lit: bool) -> None:
    radius = canvas.px(5)
    pygame.draw.rect(canvas.surface, ACCENT if lit else BACKGROUND, cap, border_radius=radius)
    pygame.draw.rect(canvas.surface, ACCENT if lit else LINE, cap, width=max(canvas.px(1), 1), border_radius=radius)
    ink = BACKGROUND if lit else TEXT
    if name not in ARROWS:
        label = canvas.label(name, 16, ink)
        canvas.surface.blit(label, label.get_rect(center=cap.center))
        return
    turn = {"right": 0, "up": 90, "left": 180, "down": 270}[name]
    corners = (pygame.Vector2(corner).rotate(-turn) * canvas.px(6) for corner in ((1, 0), (-0.8, -1), (-0.8, 1)))
    pygame.draw.polygon(canvas.surface, ink, [corner + cap.center for corner in corners])
