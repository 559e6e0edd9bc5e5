"""Atari Boxing, played through ale-py."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from worldsim.action import ActionSpec, Channel
from worldsim_envs.games.base import Game, PolicyFactory, Position
from worldsim_envs.games.policies import HeldRandom, Switching

# The 18 actions of ALE, in its order (ale_py.Action).
ACTION_NAMES = (
    "NOOP", "FIRE", "UP", "RIGHT", "LEFT", "DOWN", "UPRIGHT", "UPLEFT", "DOWNRIGHT", "DOWNLEFT",
    "UPFIRE", "RIGHTFIRE", "LEFTFIRE", "DOWNFIRE", "UPRIGHTFIRE", "UPLEFTFIRE", "DOWNRIGHTFIRE", "DOWNLEFTFIRE",
)  # fmt: skip
CHANNELS = ("up", "down", "left", "right", "fire")

ACTIONS = ActionSpec(
    [Channel(name) for name in CHANNELS],
    [[channel.upper() in name for channel in CHANNELS] for name in ACTION_NAMES],
    names=ACTION_NAMES,
    keys={
        "up": ("up", "w"),
        "down": ("down", "s"),
        "left": ("left", "a"),
        "right": ("right", "d"),
        "fire": ("space",),
    },
)

SKIP = 4
OPENING_NOOP_FRAMES = 30
OPENING_ACTION_STEPS = 30

# Columns and rows of the 160x210 screen that a frame shows. The boxers reach columns 34 to 126 and rows 40 to 171;
# above them stand the scores (rows 5 to 11) and the clock (17 to 24). So: the ring between its side ropes, from just
# above the scores to the lower rope. A frame's pixel is 1.5 x 2.75 of the screen's, which a television draws wider
# than high (1.75 : 1), so that the ring looks as it should.
LEFT, TOP, RIGHT, BOTTOM = 32, 4, 128, 180
SIZE = 64
SCALE_X, SCALE_Y = (RIGHT - LEFT) / SIZE, (BOTTOM - TOP) / SIZE

# RAM of the console (names from AtariARI; checked against the screen in tests/envs/test_boxing_game.py).
RAM_PLAYER_X, RAM_OPPONENT_X, RAM_PLAYER_Y, RAM_OPPONENT_Y = 32, 33, 34, 35
RAM_PLAYER_SCORE, RAM_OPPONENT_SCORE = 18, 19
# High and low byte of a shift register of 16 bits, the chance by which the opponent decides. It steps once a screen
# whatever is played and starts every game alike, so it runs in step with the clock: who has the screens counted
# since the start could know it.
RAM_LUCK = 93, 94
LUCK_BITS = 15
# From a RAM coordinate to the screen column or row of the boxer's head.
HEAD_X, HEAD_Y = 10.0, 59.5

GRASS, WHITE = (110, 156, 66), 214
RING_ROWS = slice(12, 63)  # between the upper and the lower rope, in frame pixels
LEAST_AREA = 12.0  # frame pixels; a boxer covers 45 to 140


@dataclass(frozen=True)
class Snapshot:
    """A save state: the emulator with its random generator, and what was shown when it was taken."""

    emulator: Any
    frame: np.ndarray
    ended: bool


@dataclass(frozen=True)
class Ring:
    """What a scripted policy sees: both boxers in frame pixels, both scores."""

    player: Position
    opponent: Position
    player_score: int
    opponent_score: int


class Boxing(Game):
    """ALE/Boxing-v5 without sticky actions: 4 screens a step, the frame is the maximum of the last two.

    The player is white, the opponent black. +1 or +2 for a punch that lands, -1 or -2 for one taken; the episode ends
    with the clock (0:01 is the last time shown) or with 100 points (shown as KO). A frame shows ring, scores and clock.
    """

    name = "boxing"
    env_id = "ALE/Boxing-v5"
    licence = "ale-py GPL-2.0-only; the ROM's copyright is separate"
    packages = ("ale-py",)
    fps = 60 // SKIP
    height = width = SIZE
    actions = ACTIONS
    max_episode_steps = 1800

    def __init__(self) -> None:
        self._ale = _start_emulator()
        self._legal = self._ale.getLegalActionSet()
        self._screens = [np.empty((*self._ale.getScreenDims(), 3), dtype=np.uint8) for _ in range(2)]
        self._frame: np.ndarray | None = None
        self._ended = True

    def reset(self, seed: int | np.random.SeedSequence) -> np.ndarray:
        """Start an episode after 0 to 30 no-op screens and 0 to 30 steps of random play, both drawn from the seed."""
        rng = np.random.default_rng(seed)
        self._ale.reset_game()
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

    def luck(self) -> int:
        """The shift register that moves the opponent, 16 bits."""
        self._check_shown("luck")
        ram = self._ale.getRAM()
        high, low = (int(ram[byte]) for byte in RAM_LUCK)
        return high << 8 | low

    def set_luck(self, luck: int) -> None:
        """Change the shift register. ValueError for a value that it never takes."""
        self._check_shown("luck")
        if not 0 < luck < 1 << 16 or luck & 1 != _feedback(luck >> 1):
            raise ValueError(f"luck {luck} is none of Boxing's {(1 << LUCK_BITS) - 1}: use one that luck() gave")
        for byte, value in zip(RAM_LUCK, divmod(luck, 256), strict=True):
            self._ale.setRAM(byte, value)

    def reroll(self, rng: np.random.Generator) -> None:
        """Change the shift register to any value of its cycle of 32767, of which one game runs through some 7100."""
        self.set_luck(next_luck(int(rng.integers(1, 1 << LUCK_BITS))))

    def ring(self) -> Ring:
        """The present state as the console's memory holds it."""
        ram = self._ale.getRAM()
        return Ring(
            player=_to_frame(ram[RAM_PLAYER_X], ram[RAM_PLAYER_Y]),
            opponent=_to_frame(ram[RAM_OPPONENT_X], ram[RAM_OPPONENT_Y]),
            player_score=_from_bcd(ram[RAM_PLAYER_SCORE]),
            opponent_score=_from_bcd(ram[RAM_OPPONENT_SCORE]),
        )

    @classmethod
    def policies(cls) -> Mapping[str, PolicyFactory]:
        from worldsim_envs.games.boxing_policies import Fighter, Runner

        return {
            "mixed": lambda rng: Switching(rng, (HeldRandom, Fighter, Runner)),
            "fighter": Fighter,
            "random": HeldRandom,
            "runner": Runner,
        }

    @staticmethod
    def player_xy(frame: np.ndarray) -> Position | None:
        """Head of the white boxer in a frame (64, 64, 3) uint8, in frame pixels; None when no white boxer is there."""
        blue = _ring_of(frame)[..., 2]
        return _head((blue - GRASS[2]) / (WHITE - GRASS[2]))

    @staticmethod
    def opponent_xy(frame: np.ndarray) -> Position | None:
        """Head of the black boxer in a frame (64, 64, 3) uint8, in frame pixels; None when no black boxer is there."""
        green = _ring_of(frame)[..., 1]
        return _head((GRASS[1] - green) / GRASS[1])

    def _check(self, action: int) -> None:
        if not isinstance(action, (int, np.integer)) or not 0 <= action < len(self._legal):
            raise ValueError(f"action {action!r} is not one of Boxing's: use an integer 0..{len(self._legal) - 1}")
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
        return _shrink(np.maximum(*self._screens)), reward


def next_luck(luck: int) -> int:
    """The shift register of 16 bits one screen later."""
    return (luck << 1) & 0xFFFF | _feedback(luck)


def _feedback(luck: int) -> int:
    """The bit that moves in: a sequence of greatest length over 15 bits, x^15 + x^14 + 1 (Golomb 1967)."""
    return (luck >> 13 ^ luck >> 14) & 1


def _start_emulator() -> Any:
    try:
        from ale_py import ALEInterface, LoggerMode, roms
    except ModuleNotFoundError:
        raise ModuleNotFoundError('the real game Boxing needs ale-py: pip install "worldsim[atari]"') from None
    ALEInterface.setLoggerMode(LoggerMode.Error)
    ale = ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.setInt("random_seed", 0)
    ale.setInt("frame_skip", 1)
    ale.loadROM(roms.get_rom_path("boxing"))
    return ale


def _parts(first: int, end: int) -> np.ndarray:
    """(SIZE, n) row or column of each of the n equal parts of screen pixels that make up a frame pixel."""
    cut = SIZE // math.gcd(SIZE, end - first)
    return np.arange(first, end).repeat(cut).reshape(SIZE, -1)


ROW_PARTS, COLUMN_PARTS = _parts(TOP, BOTTOM), _parts(LEFT, RIGHT)
PARTS = ROW_PARTS.shape[1] * COLUMN_PARTS.shape[1]


def _shrink(screen: np.ndarray) -> np.ndarray:
    """The visible part of a screen (210, 160, 3) uint8 as a frame (64, 64, 3) uint8, each pixel the mean of its area.

    In whole numbers, so the same on every machine. (Pillow's BOX filter takes a pixel on a border whole or not at
    all, and so shakes a boxer's edges as it walks; its exact `reduce` needs the picture 8 times as large.)
    """
    rows = screen[ROW_PARTS].sum(axis=1, dtype=np.uint16)
    sums = rows[:, COLUMN_PARTS].sum(axis=2, dtype=np.uint16)
    return ((sums + PARTS // 2) // PARTS).astype(np.uint8)


def _to_frame(ram_x: int, ram_y: int) -> Position:
    return (int(ram_x) + HEAD_X - LEFT) / SCALE_X, (int(ram_y) + HEAD_Y - TOP) / SCALE_Y


def _from_bcd(byte: int) -> int:
    return 10 * (int(byte) >> 4) + (int(byte) & 15)


def _ring_of(frame: np.ndarray) -> np.ndarray:
    if frame.shape != (SIZE, SIZE, 3) or frame.dtype != np.uint8:
        raise ValueError(f"frame is {frame.dtype} {frame.shape}; positions are read from uint8 ({SIZE}, {SIZE}, 3)")
    return frame[RING_ROWS].astype(np.float64)


def _head(cover: np.ndarray) -> Position | None:
    """Where a boxer's head is: a boxer is as high above its head as below, and a punch moves arms, not the head.

    cover: (51, 64) share of each pixel of the ring that the boxer covers.
    """
    cover = np.where(cover < 0.25, 0.0, np.clip(cover, 0.0, 1.0))
    if cover.sum() < LEAST_AREA:
        return None
    rows, columns = np.arange(len(cover)), np.arange(SIZE)
    y = cover.sum(axis=1) @ rows / cover.sum()
    head = cover[np.abs(rows - y) <= 2].sum(axis=0)
    if not head.any():
        return None
    return float(head @ columns / head.sum()), float(y + RING_ROWS.start)
