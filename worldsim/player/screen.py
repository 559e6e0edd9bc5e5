"""The player's window: keys and gamepad in, the picture with a panel beside it out."""

from __future__ import annotations

import numpy as np
import pygame

from worldsim.action import ActionSpec
from worldsim.player import controls, hud
from worldsim.player.controls import REWIND, Keys
from worldsim.player.keymap import KeyMap
from worldsim.player.loop import Figures
from worldsim.player.pads import Pads
from worldsim.player.panes import GAP
from worldsim.player.status import Status
from worldsim.window import BACKGROUND, blit_sharp, keep_on_screen, open_display, scale_for_desktop


class Window:
    """The game's picture, a panel right of it and a line of words under it.

    title: the world's name; shape: (H, W) of a frame; actions: of the world, whose keys play; scale: screen pixels a
    game pixel at first, None for one that suits the screen; later the window's size decides. keymap: what each key
    does, None for the world's own keys.
    """

    def __init__(
        self,
        title: str,
        shape: tuple[int, int],
        actions: ActionSpec,
        *,
        scale: int | None = None,
        keymap: KeyMap | None = None,
    ) -> None:
        open_display()
        self._title, self._keymap = title, keymap or KeyMap.usual(actions)
        self._key_names = controls.key_names(self._keymap.actions)
        height, width = (side * (scale or scale_for_desktop(shape)) for side in shape)
        unit = min(max(height / 512, 1.0), 1.5)
        size = (width + round(300 * unit), max(height, round(540 * unit)) + round(36 * unit))
        self._shape, self._single, self._given = shape, size, size
        self._captions: tuple[str, ...] = ()
        self._canvas = hud.Canvas(pygame.display.set_mode(size, pygame.RESIZABLE), unit)
        pygame.display.set_caption(f"worldsim: {title}")
        self._held: set[str] = set()
        self._pads = Pads()
        self._picture, self._pointer = pygame.Rect(0, 0, 1, 1), (0.0, 0.0)
        self._help, self._panel_shown = False, True
        self._mode = ""
        self._drawn: tuple | None = None

    @property
    def driver(self) -> str:
        """What the window is shown by: "x11", "dummy", ..."""
        return pygame.display.get_driver()

    def poll(self) -> Keys:
        """What is held now, and what was tapped or commanded since the last call."""
        tapped, commands = set(), []
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                commands.append("quit")
            elif event.type == pygame.WINDOWFOCUSLOST:
                self._held = set()
            elif event.type in (pygame.KEYDOWN, pygame.KEYUP):
                self._key(event, tapped, commands)
            elif event.type in (pygame.MOUSEBUTTONDOWN, pygame.MOUSEBUTTONUP, pygame.MOUSEMOTION):
                self._mouse(event)
            elif event.type in (pygame.VIDEORESIZE, pygame.WINDOWEXPOSED):
                self._drawn = None
            else:
                self._pads.hear(event, tapped)
        self._toggle(commands)
        pads = self._pads
        pushed = zip(self._keymap.mouse, self._pointer, strict=True)
        pointer = tuple((name, push) for name, push in pushed if name and push)
        held = frozenset(self._held | pads.held)
        return Keys(held, frozenset(tapped), tuple(commands), pads.stick, pointer, pads.triggers)

    def show(self, frame: np.ndarray, status: Status, figures: Figures) -> None:
        """Show a frame (H, W, 3) uint8 and the figures beside it; returns when both are on the screen."""
        if len(status.captions) != len(self._captions):
            self._make_room(max(len(status.captions), 1))
        self._captions, self._mode = status.captions, status.mode
        screen = self._canvas.surface
        field, panel, line = self._layout()
        ground = (status.captions, self._help, self._panel_shown, screen.get_size(), frame.shape)
        drawn = (status, figures, self._pads.note, ground)
        if self._drawn != drawn:
            if self._drawn is None or self._drawn[-1] != ground:
                screen.fill(BACKGROUND)
            if panel.width:
                hud.draw_panel(self._canvas, panel, self._title, status, figures, self._key_names)
            hud.draw_words(self._canvas, line, status, self._pads.note)
            self._drawn = drawn
        pane = self._picture = blit_sharp(screen, frame, field)
        if status.captions:
            hud.draw_captions(self._canvas, self._panes(pane, frame.shape[1]), status.captions)
        if self._help:
            actions = self._keymap.actions
            commands = controls.command_rows(actions, self._keymap.commands, real=status.real)
            hud.draw_help(self._canvas, field, controls.help_rows(actions), commands)
        pygame.display.flip()

    def close(self) -> None:
        """Close the window."""
        pygame.joystick.quit()
        pygame.display.quit()

    def _key(self, event: pygame.Event, tapped: set[str], commands: list[str]) -> None:
        name = pygame.key.name(event.key)
        if event.type == pygame.KEYUP:
            self._held.discard(name)
        elif name in self._key_names or name == REWIND:
            self._held.add(name)
            tapped.add(name)
        elif name in self._keymap.commands:
            command = self._keymap.commands[name]
            repaints = self._mode == "repaint"  # which is left before the game
            commands.append("leave" if repaints and command == "quit" else command)

    def _mouse(self, event: pygame.Event) -> None:
        """The pointer pushes axes while the left button is held; the middle of the picture is rest."""
        held = event.buttons[0] if event.type == pygame.MOUSEMOTION else event.type == pygame.MOUSEBUTTONDOWN
        if event.type != pygame.MOUSEMOTION and event.button != 1:
            return
        away = pygame.Vector2(event.pos) - self._picture.center
        pushes = 2 * away.x / self._picture.width, 2 * away.y / self._picture.height
        self._pointer = tuple(min(max(push, -1.0), 1.0) for push in pushes) if held else (0.0, 0.0)

    def _toggle(self, commands: list[str]) -> None:
        self._help ^= commands.count("help") % 2 == 1
        self._panel_shown ^= commands.count("panel") % 2 == 1

    def _make_room(self, panes: int) -> None:
        """Make the window wide enough for so many pictures, as large as the screen allows, and narrow again after.

        A window that the player gave another size meanwhile is only made wider.
        """
        size = self._canvas.surface.get_size()
        if size != self._given:
            self._single = size
        width, height = self._single
        if panes > 1:
            most = pygame.display.get_desktop_sizes()[0][0] * 19 // 20
            field, panel, _ = self._layout(self._single)
            frame = panes * (self._shape[1] + GAP)
            largest = min(field.width // self._shape[1], field.height // self._shape[0])
            scale = max(1, min((most - panel.width) // frame, largest))
            width = max(frame * scale + panel.width, width)
        self._given, self._drawn = (width, height), None
        if size != self._given:
            self._canvas = hud.Canvas(pygame.display.set_mode(self._given, pygame.RESIZABLE), self._canvas.unit)
            keep_on_screen(width)

    def _panes(self, picture: pygame.Rect, pixels: int) -> list[pygame.Rect]:
        """Where each of the pictures stands in the one that was drawn, which is so many game pixels wide."""
        scale = picture.width // pixels
        size = (self._shape[1] * scale, picture.height)
        step = (self._shape[1] + GAP) * scale
        return [pygame.Rect(picture.left + i * step, picture.top, *size) for i in range(len(self._captions))]

    def _layout(self, size: tuple[int, int] | None = None) -> tuple[pygame.Rect, pygame.Rect, pygame.Rect]:
        """The picture's field, the panel and the line of words under both. size: of the window, None for its own.

        The panel gives way where it leaves the picture no room.
        """
        width, height = size or self._canvas.surface.get_size()
        line, panel = self._canvas.px(36), self._canvas.px(300)
        pictures = max(len(self._captions), 1) * (self._shape[1] + GAP) - GAP
        if not self._panel_shown or width - panel < pictures:
            panel = 0
        field = pygame.Rect(0, 0, max(width - panel, 1), max(height - line, 1))
        return field, pygame.Rect(field.right, 0, panel, field.height), pygame.Rect(0, field.bottom, width, line)
