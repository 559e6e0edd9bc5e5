"""Atari Boxing, played through ale-py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from worldsim.action import ActionSpec, Channel
from worldsim_envs.games.atari import AtariGame, from_bcd
from worldsim_envs.games.base import FramePolicyFactory, PolicyFactory, Position
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
class Ring:
    """What a scripted policy sees: both boxers in frame pixels, both scores."""

    player: Position
    opponent: Position
    player_score: int
    opponent_score: int


class Boxing(AtariGame):
    """ALE/Boxing-v5 without sticky actions.

    The player is white, the opponent black. +1 or +2 for a punch that lands, -1 or -2 for one taken; the episode ends
    with the clock (0:01 is the last time shown) or with 100 points (shown as KO). A frame shows ring, scores and clock.
    """

    name = "boxing"
    env_id = "ALE/Boxing-v5"
    licence = "ale-py GPL-2.0-only; the ROM's copyright is separate"
    rom = "boxing"
    crop = TOP, LEFT, BOTTOM, RIGHT
    height = width = SIZE
    actions = ACTIONS
    max_episode_steps = 1800
    # A punch is no part of its own: most of the time the button does nothing that a frame shows.
    effects = {
        "x": tuple(int(row[3] - row[2]) for row in ACTIONS.table),
        "y": tuple(int(row[1] - row[0]) for row in ACTIONS.table),
    }
    state_names = ("player_x", "player_y", "opponent_x", "opponent_y")

    @staticmethod
    def native_actions(emulator: Any) -> list:
        return emulator.getLegalActionSet()

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

    def visible_state(self) -> np.ndarray:
        """Heads of both boxers as the console's memory holds them, in frame pixels."""
        self._check_shown("state")
        ring = self.ring()
        return np.array([*ring.player, *ring.opponent], np.float64)

    def ring(self) -> Ring:
        """The present state as the console's memory holds it."""
        ram = self._ale.getRAM()
        return Ring(
            player=_to_frame(ram[RAM_PLAYER_X], ram[RAM_PLAYER_Y]),
            opponent=_to_frame(ram[RAM_OPPONENT_X], ram[RAM_OPPONENT_Y]),
            player_score=from_bcd(ram[RAM_PLAYER_SCORE]),
            opponent_score=from_bcd(ram[RAM_OPPONENT_SCORE]),
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

    @classmethod
    def frame_policies(cls) -> Mapping[str, FramePolicyFactory]:
        from worldsim_envs.games.boxing_seen import frame_policies

        return frame_policies()

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


def next_luck(luck: int) -> int:
    """The shift register of 16 bits one screen later."""
    return (luck << 1) & 0xFFFF | _feedback(luck)


def _feedback(luck: int) -> int:
    """The bit that moves in: a sequence of greatest length over 15 bits, x^15 + x^14 + 1 (Golomb 1967)."""
    return (luck >> 13 ^ luck >> 14) & 1


def _to_frame(ram_x: int, ram_y: int) -> Position:
    return (int(ram_x) + HEAD_X - LEFT) / SCALE_X, (int(ram_y) + HEAD_Y - TOP) / SCALE_Y


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
