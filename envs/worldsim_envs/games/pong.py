"""Atari Pong, played through ale-py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from worldsim.action import ActionSpec, Channel
from worldsim_envs.games.atari import AtariGame
from worldsim_envs.games.base import PolicyFactory, Position
from worldsim_envs.games.policies import HeldRandom, Switching

# The 6 actions of ALE/Pong-v5, in its order. What ALE calls right and left moves the paddle up and down.
ACTION_NAMES = ("NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE")
MEANS = {"up": "RIGHT", "down": "LEFT", "fire": "FIRE"}

ACTIONS = ActionSpec(
    [Channel(name) for name in MEANS],
    [[word in name for word in MEANS.values()] for name in ACTION_NAMES],
    names=ACTION_NAMES,
    keys={"up": ("up", "w"), "down": ("down", "s"), "fire": ("space",)},
)

# Rows of the 210x160 screen that a frame shows: both scores (rows 1 to 20) and the field with its borders (24 to 193).
# Two of its pixels each way make one of a frame, so that the ball, 2 wide and 4 high, stays a pixel with sharp edges.
TOP, BOTTOM, SCALE = 2, 194, 2
FIELD_TOP, FIELD_BOTTOM = 34, 194

# RAM of the console (names from AtariARI; checked against the screen in tests/envs/test_pong_game.py), and how far each
# lies from the screen row or column where the thing begins.
RAM_PLAYER_Y, RAM_OPPONENT_Y, RAM_BALL_X, RAM_BALL_Y = 51, 50, 49, 54
PLAYER_ROW, OPPONENT_ROW, BALL_COLUMN, BALL_ROW = 13, 15, 49, 14
PADDLE_HEIGHT, BALL_HEIGHT, BALL_WIDTH = 16, 4, 2

PLAYER, OPPONENT = np.array((92, 186, 92)), np.array((213, 130, 74))
PLAYER_COLUMNS, OPPONENT_COLUMNS = slice(70, 72), slice(8, 10)
FIELD_ROWS = slice((FIELD_TOP - TOP) // SCALE, (FIELD_BOTTOM - TOP) // SCALE)
NEAR = 40
"""Levels in every channel: a blurred paddle still counts, the ground (144, 72, 17) does not."""


class Pong(AtariGame):
    """ALE/Pong-v5 without sticky actions.

    The player is the green paddle on the right. +1 when the opponent misses, -1 when the player does; 21 points end it.
    A paddle answers a command one step late. A frame shows the scores and the field.
    """

    name = "pong"
    env_id = "ALE/Pong-v5"
    licence = "ale-py GPL-2.0-only; the ROM's copyright is separate"
    rom = "pong"
    crop = TOP, 0, BOTTOM, 160
    height, width = (BOTTOM - TOP) // SCALE, 160 // SCALE
    actions = ACTIONS
    max_episode_steps = 3000
    effects = {"y": tuple(int(row[1] - row[0]) for row in ACTIONS.table)}
    state_names = ("player_y", "opponent_y", "ball_x", "ball_y")

    @staticmethod
    def native_actions(emulator: Any) -> list:
        return emulator.getMinimalActionSet()

    def visible_state(self) -> np.ndarray:
        """Centres of what is seen of the paddles and the ball, in frame pixels; NaN for a ball that is not in play."""
        self._check_shown("state")
        ram = self._ale.getRAM().astype(int)
        paddles = [
            _centre(ram[RAM_PLAYER_Y] - PLAYER_ROW, PADDLE_HEIGHT),
            _centre(ram[RAM_OPPONENT_Y] - OPPONENT_ROW, PADDLE_HEIGHT),
        ]
        if ram[RAM_BALL_Y] == 0:
            return np.array([*paddles, np.nan, np.nan])
        ball_x = (ram[RAM_BALL_X] - BALL_COLUMN + (BALL_WIDTH - 1) / 2 - 0.5) / SCALE
        return np.array([*paddles, ball_x, _centre(ram[RAM_BALL_Y] - BALL_ROW, BALL_HEIGHT)])

    @classmethod
    def policies(cls) -> Mapping[str, PolicyFactory]:
        from worldsim_envs.games.pong_policies import Follower

        return {
            "mixed": lambda rng: Switching(rng, (HeldRandom, Follower)),
            "follower": Follower,
            "random": HeldRandom,
        }

    @staticmethod
    def player_xy(frame: np.ndarray) -> Position | None:
        """Centre of the green paddle in a frame (96, 80, 3) uint8, in frame pixels; None where it cannot be seen."""
        return _paddle(frame, PLAYER_COLUMNS, PLAYER)

    @staticmethod
    def opponent_xy(frame: np.ndarray) -> Position | None:
        """Centre of the orange paddle in a frame (96, 80, 3) uint8, in frame pixels; None where it cannot be seen."""
        return _paddle(frame, OPPONENT_COLUMNS, OPPONENT)


def _centre(first: int, length: int) -> float:
    """Frame row of the middle of what the field shows of a thing that begins at a screen row."""
    top, bottom = max(first, FIELD_TOP), min(first + length, FIELD_BOTTOM)
    return ((top + bottom - 1) / 2 - TOP - 0.5) / SCALE


def _paddle(frame: np.ndarray, columns: slice, colour: np.ndarray) -> Position | None:
    if frame.shape != (Pong.height, Pong.width, 3) or frame.dtype != np.uint8:
        seen, right = f"{frame.dtype} {frame.shape}", f"uint8 ({Pong.height}, {Pong.width}, 3)"
        raise ValueError(f"frame is {seen}; positions are read from {right}")
    strip = frame[FIELD_ROWS, columns].astype(int)
    rows = np.flatnonzero((np.abs(strip - colour) <= NEAR).all(axis=-1).any(axis=-1))
    if not len(rows):
        return None
    return (columns.start + columns.stop - 1) / 2, float(rows.mean() + FIELD_ROWS.start)
