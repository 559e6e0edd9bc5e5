"""The menu of the shipped worlds."""

from __future__ import annotations

from dataclasses import dataclass

import pygame

from worldsim.player.hud import ACCENT, LINE, MUTED, SURFACE, TEXT, Canvas
from worldsim.shelf import Entry, entry
from worldsim.window import BACKGROUND, open_display

CARD = (220, 270)
PICTURE = 192
GAP = 24
HEAD, FOOT = 84, 36
COLUMNS = 4
"""Cards in a row where the screen has room for them at full size."""
NARROWEST = 480
ROOM = 0.9
"""Share of the screen's width and height that the menu takes at most: there are title bars and task bars."""
LETTERS = 15
"""Least size of letters in pixels, where everything else shrinks."""
MOVES = {pygame.K_LEFT: -1, pygame.K_UP: -1, pygame.K_RIGHT: 1, pygame.K_DOWN: 1, pygame.K_TAB: 1}
TAKE = (pygame.K_RETURN, pygame.K_SPACE, pygame.K_KP_ENTER)


@dataclass(frozen=True)
class Shelf:
    """Where the cards lie. unit: pixels a unit, as of a `Canvas`."""

    cards: int
    columns: int
    unit: float = 1.0

    @classmethod
    def for_screen(cls, cards: int, screen: tuple[int, int]) -> Shelf:
        """The shelf of that many cards that is largest on a screen of that width and height."""
        usual = min(cards, COLUMNS)
        others = (columns for columns in range(1, cards + 1) if columns != usual)
        return max((cls._fitted(cards, columns, screen) for columns in (usual, *others)), key=lambda each: each.unit)

    @classmethod
    def _fitted(cls, cards: int, columns: int, screen: tuple[int, int]) -> Shelf:
        full = cls(cards, columns)
        fit = min(ROOM * most / side for most, side in zip(screen, full.size, strict=True))
        return cls(cards, columns, min(fit, 1.0))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the window in pixels."""
        rows = -(-self.cards // self.columns)
        width = max(self.columns * (CARD[0] + GAP) + GAP, NARROWEST)
        height = HEAD + rows * (CARD[1] + GAP) + FOOT
        return round(width * self.unit), round(height * self.unit)

    def moved(self, index: int, key: int) -> int:
        """The card that a key of MOVES leads to from this one; the same at the edge. A shorter last row ends early."""
        if key not in (pygame.K_UP, pygame.K_DOWN):
            return min(max(index + MOVES[key], 0), self.cards - 1)
        row = index // self.columns + MOVES[key]
        is_there = 0 <= row <= (self.cards - 1) // self.columns
        return min(index + MOVES[key] * self.columns, self.cards - 1) if is_there else index

    def card(self, index: int) -> pygame.Rect:
        """A card's place in the window."""
        row, column = divmod(index, self.columns)
        sides = (GAP + column * (CARD[0] + GAP), HEAD + row * (CARD[1] + GAP), *CARD)
        return pygame.Rect(*(round(side * self.unit) for side in sides))


def choose(worlds: list[str]) -> str | None:
    """The world that the player picks with arrows and return, or a click; None where the window is closed."""
    open_display()
    entries = [entry(world) for world in worlds]
    shelf = Shelf.for_screen(len(entries), pygame.display.get_desktop_sizes()[0])
    canvas = Canvas(pygame.display.set_mode(shelf.size), shelf.unit)
    pygame.display.set_caption("worldsim")
    chosen = 0
    while True:
        _draw(canvas, entries, chosen, shelf)
        event = pygame.event.wait(1000)
        if event.type == pygame.QUIT or (event.type == pygame.KEYDOWN and event.key in (pygame.K_ESCAPE, pygame.K_q)):
            return None
        if event.type == pygame.KEYDOWN and event.key in MOVES:
            chosen = shelf.moved(chosen, event.key)
        elif event.type == pygame.KEYDOWN and event.key in TAKE:
            return entries[chosen].world
        elif event.type == pygame.MOUSEBUTTONDOWN and event.button == pygame.BUTTON_LEFT:  # the wheel has buttons, too
            under = [i for i in range(len(entries)) if shelf.card(i).collidepoint(event.pos)]
            if under:
                return entries[under[0]].world


def _draw(canvas: Canvas, entries: list[Entry], chosen: int, shelf: Shelf) -> None:
    px = canvas.px
    canvas.surface.fill(BACKGROUND)
    canvas.text("Choose a world", 34, TEXT, (px(GAP), px(26)))
    for index, each in enumerate(entries):
        card = shelf.card(index)
        pygame.draw.rect(canvas.surface, SURFACE, card, border_radius=px(8))
        colour, line = (ACCENT, 3) if index == chosen else (LINE, 1)
        pygame.draw.rect(canvas.surface, colour, card, width=line, border_radius=px(8))
        picture = _picture(each, px(PICTURE))
        canvas.surface.blit(picture, picture.get_rect(center=(card.centerx, card.top + px(14 + PICTURE / 2))))
        words = card.inflate(-2 * px(16), 0)
        y = _write(canvas, each.title, 24, TEXT, words.move(0, px(PICTURE + 24)))
        _write(canvas, each.detail, 16, MUTED, words.move(0, y + px(4) - words.top))
    hint = canvas.surface.get_rect().inflate(-2 * px(GAP), 0).move(0, canvas.surface.get_height() - px(30))
    _write(canvas, "arrows and return, or a click   Esc quit", 18, MUTED, hint)
    pygame.display.flip()


def _write(canvas: Canvas, text: str, size: float, colour: tuple, at: pygame.Rect) -> int:
    """Write one line along the top of a rectangle, in letters that can be read. Returns the y under it."""
    size = max(size, LETTERS / canvas.unit)
    return canvas.text(canvas.fitted(text, size, at.width), size, colour, at.topleft)


def _picture(shown: Entry, side: int) -> pygame.Surface:
    """A world's picture, as large as fits a square of so many pixels."""
    height, width = shown.picture.shape[:2]
    fit = min(side / width, side / height)
    whole = int(fit) > 0.8 * fit  # pixels stay square where that leaves the picture large
    small = pygame.image.frombuffer(shown.picture.tobytes(), (width, height), "RGB")
    enlarge, scale = (pygame.transform.scale, int(fit)) if whole else (pygame.transform.smoothscale, fit)
    return enlarge(small, (round(width * scale), round(height * scale)))
