"""The menu of the shipped worlds."""

from __future__ import annotations

import pygame

from worldsim.player.hud import ACCENT, LINE, MUTED, SURFACE, TEXT, Canvas
from worldsim.shelf import Entry, entry
from worldsim.window import BACKGROUND, open_display

CARD = (220, 270)
PICTURE = 192
GAP = 24
MOVES = {pygame.K_LEFT: -1, pygame.K_UP: -1, pygame.K_RIGHT: 1, pygame.K_DOWN: 1, pygame.K_TAB: 1}
TAKE = (pygame.K_RETURN, pygame.K_SPACE, pygame.K_KP_ENTER)


def choose(worlds: list[str]) -> str | None:
    """The world that the player picks with arrows and return, or a click; None where the window is closed."""
    open_display()
    entries = [entry(world) for world in worlds]
    columns = min(len(entries), 4)
    rows = -(-len(entries) // columns)
    size = (max(columns * (CARD[0] + GAP) + GAP, 480), 84 + rows * (CARD[1] + GAP) + 36)
    canvas = Canvas(pygame.display.set_mode(size), 1.0)
    pygame.display.set_caption("worldsim")
    chosen = 0
    while True:
        _draw(canvas, entries, chosen, columns)
        event = pygame.event.wait(1000)
        if event.type == pygame.QUIT or (event.type == pygame.KEYDOWN and event.key in (pygame.K_ESCAPE, pygame.K_q)):
            return None
        if event.type == pygame.KEYDOWN and event.key in MOVES:
            step = MOVES[event.key] * (columns if event.key in (pygame.K_UP, pygame.K_DOWN) else 1)
            chosen = min(max(chosen + step, 0), len(entries) - 1)
        elif event.type == pygame.KEYDOWN and event.key in TAKE:
            return entries[chosen].world
        elif event.type == pygame.MOUSEBUTTONDOWN:
            under = [i for i in range(len(entries)) if _card(i, columns).collidepoint(event.pos)]
            if under:
                return entries[under[0]].world


def _draw(canvas: Canvas, entries: list[Entry], chosen: int, columns: int) -> None:
    canvas.surface.fill(BACKGROUND)
    canvas.text("Choose a world", 34, TEXT, (GAP, 26))
    for index, each in enumerate(entries):
        card = _card(index, columns)
        pygame.draw.rect(canvas.surface, SURFACE, card, border_radius=8)
        colour, line = (ACCENT, 3) if index == chosen else (LINE, 1)
        pygame.draw.rect(canvas.surface, colour, card, width=line, border_radius=8)
        height, width = each.picture.shape[:2]
        fit = min(PICTURE / width, PICTURE / height)
        whole = int(fit) > 0.8 * fit  # pixels stay square where that leaves the picture large
        small = pygame.image.frombuffer(each.picture.tobytes(), (width, height), "RGB")
        enlarge, scale = (pygame.transform.scale, int(fit)) if whole else (pygame.transform.smoothscale, fit)
        picture = enlarge(small, (round(width * scale), round(height * scale)))
        canvas.surface.blit(picture, picture.get_rect(center=(card.centerx, card.top + 14 + PICTURE // 2)))
        y = canvas.text(each.title, 24, TEXT, (card.left + 16, card.top + PICTURE + 24))
        canvas.text(each.detail, 16, MUTED, (card.left + 16, y + 4))
    canvas.text("arrows and return, or a click   Esc quit", 18, MUTED, (GAP, canvas.surface.get_height() - 30))
    pygame.display.flip()


def _card(index: int, columns: int) -> pygame.Rect:
    row, column = divmod(index, columns)
    return pygame.Rect(GAP + column * (CARD[0] + GAP), 84 + row * (CARD[1] + GAP), *CARD)
