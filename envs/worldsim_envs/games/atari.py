"""What all games of the Atari 2600 have in common, played through ale-py."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from worldsim_envs.games.base import Game
from worldsim_envs.games.policies import HeldRandom

SKIP = 4
OPENING_NOOP_FRAMES = 30
OPENING_ACTION_STEPS = 30


@dataclass(frozen=True)
class Snapshot:
    """A save state: the emulator with its random generator, and what was shown when it was taken."""

    emulator: Any
    frame: np.ndarray
    ended: bool


class AtariGame(Game):
    """A cartridge without sticky actions: 4 screens a step, the frame is the maximum of the last two.

    A subclass gives `rom`, the `crop` of the screen that a frame shows, and `native_actions`.
    """

    rom: ClassVar[str]
    """The cartridge's name in ale_py.roms."""
    crop: ClassVar[tuple[int, int, int, int]]
    """Top, left, bottom, right of the shown part of the 210x160 screen; the parts of a frame's pixels are equal."""
    packages = ("ale-py",)
    fps = 60 // SKIP

    def __init__(self) -> None:
        self._ale = _start_emulator(self.rom, type(self).__name__)
        self._legal = self.native_actions(self._ale)
        self._screens = [np.empty((*self._ale.getScreenDims(), 3), dtype=np.uint8) for _ in range(2)]
        self._frame: np.ndarray | None = None
        self._ended = True

    @staticmethod
    @abstractmethod
    def native_actions(emulator: Any) -> list:
        """The emulator's actions, in the order of the game's own."""

    def reset(self, seed: int | np.random.SeedSequence) -> np.ndarray:
        """Start an episode after 0 to 30 no-op screens and 0 to 30 steps of random play, both drawn from the seed."""
        rng = np.random.default_rng(seed)
        self._switch_on()
        self._ended = False
        for _ in range(rng.integers(OPENING_NOOP_FRAMES, endpoint=True)):
            self._ale.act(self._legal[0])
        self._frame = self._observe(self._legal[0])[0]
        opening = HeldRandom(rng)
        for _ in range(rng.integers(OPENING_ACTION_STEPS, endpoint=True)):
            self.step(opening(self))
        return self._frame.copy()

    def step(self, action: int) -> tuple[np.ndarray, float, bool]:
        self._check(action)
        self._frame, reward = self._observe(self._legal[action])
        self._ended = self._ale.game_over()
        return self._frame.copy(), reward, self._ended

    def save(self) -> Snapshot:
        self._check_shown("episode to save")
        return Snapshot(self._ale.cloneState(include_rng=True), self._frame.copy(), self._ended)

    def restore(self, state: Snapshot) -> np.ndarray:
        self._ale.restoreState(state.emulator)
        self._frame, self._ended = state.frame.copy(), state.ended
        return self._frame.copy()

    def close(self) -> None:
        self._frame, self._ended = None, True

    def _switch_on(self) -> None:
        """Begin a game, every time alike."""
        self._ale.reset_game()

    def _check(self, action: int) -> None:
        if not isinstance(action, (int, np.integer)) or not 0 <= action < len(self._legal):
            game = type(self).__name__
            raise ValueError(f"action {action!r} is not one of {game}'s: use an integer 0..{len(self._legal) - 1}")
        if self._ended:
            raise RuntimeError("there is no episode to step; call reset(seed) first")

    def _check_shown(self, what: str) -> None:
        if self._frame is None:
            raise RuntimeError(f"there is no {what}; call reset(seed) first")

    def _observe(self, action: Any) -> tuple[np.ndarray, float]:
        """Play one action for `SKIP` screens; the frame of the last two and the sum of the rewards."""
        reward = 0.0
        for i in range(SKIP):
            reward += self._ale.act(action)
            if i >= SKIP - 2:
                self._ale.getScreenRGB(self._screens[i - SKIP])
        return shrink_screen(np.maximum(*self._screens), self.crop, self.height, self.width), reward


def shrink_screen(screen: np.ndarray, crop: tuple[int, int, int, int], height: int, width: int) -> np.ndarray:
    """The shown part of a screen (210, 160, 3) uint8 as a frame (height, width, 3) uint8, each pixel its area's mean.

    In whole numbers, so the same on every machine. (Pillow's BOX filter takes a pixel on a border whole or not at
    all, and so shakes a sprite's edges as it moves; its exact `reduce` needs the picture several times as large.)
    """
    top, left, bottom, right = crop
    row_parts, column_parts = _parts(top, bottom, height), _parts(left, right, width)
    parts = row_parts.shape[1] * column_parts.shape[1]
    rows = screen[row_parts].sum(axis=1, dtype=np.uint16)
    sums = rows[:, column_parts].sum(axis=2, dtype=np.uint16)
    return ((sums + parts // 2) // parts).astype(np.uint8)


def from_bcd(byte: int) -> int:
    """The number that a byte holds as two decimal digits."""
    return 10 * (int(byte) >> 4) + (int(byte) & 15)


def _start_emulator(rom: str, title: str) -> Any:
    try:
        from ale_py import ALEInterface, LoggerMode, roms
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f'the real game {title} needs ale-py: pip install "worldsim[atari]"') from None
    ALEInterface.setLoggerMode(LoggerMode.Error)
    ale = ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.setInt("random_seed", 0)
    ale.setInt("frame_skip", 1)
    ale.loadROM(roms.get_rom_path(rom))
    return ale


@cache
def _parts(first: int, end: int, size: int) -> np.ndarray:
    """(size, n) row or column of each of the n equal parts of screen pixels that make up a frame pixel."""
    cut = size // math.gcd(size, end - first)
    return np.arange(first, end).repeat(cut).reshape(size, -1)
