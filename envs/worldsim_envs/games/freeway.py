"""Atari Freeway, played through ale-py: the negative control, whose cars take no notice of the player."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from worldsim.action import ActionSpec, Channel
from worldsim_envs.games.atari import AtariGame
from worldsim_envs.games.base import PolicyFactory, Position
from worldsim_envs.games.policies import HeldRandom, Switching

# The 3 actions of ALE/Freeway-v5, in its order.
ACTION_NAMES = ("NOOP", "UP", "DOWN")
CHANNELS = ("up", "down")

ACTIONS = ActionSpec(
    [Channel(name) for name in CHANNELS],
    [[channel.upper() == name for channel in CHANNELS] for name in ACTION_NAMES],
    names=ACTION_NAMES,
    keys={"up": ("up", "w"), "down": ("down", "s")},
)

# Columns and rows of the 160x210 screen that a frame shows: the black bar at the left and the maker's name below it are
# left out, both scores (rows 5 to 12) and both pavements (15 to 22 and 186 to 194) are in.
LEFT, TOP, RIGHT, BOTTOM = 8, 3, 160, 195
SIZE = 64
SCALE_X, SCALE_Y = (RIGHT - LEFT) / SIZE, (BOTTOM - TOP) / SIZE

# RAM of the console (names from AtariARI; checked against the screen in tests/envs/test_freeway_game.py).
RAM_PLAYER_Y, RAM_THROWN, RAM_LOWEST_CAR_X = 14, 106, 108
"""The second one counts while a car throws the left chicken back, which hears nothing then; else it is 0."""
LANES = 10
# From a RAM coordinate to the screen column or row of a thing's middle; the chicken's row falls as its number grows.
CAR_COLUMN, PLAYER_ROW, PLAYER_COLUMN = 1.0, 196.5, 47.5

PLAYER_COLUMNS, NEIGHBOURS = slice(15, 19), (slice(12, 15), slice(19, 22))
PLAYER_YELLOW = 252 - 84  # what the chicken's red and green have above its blue; the road has none
MIDDLE_LINE_ROW = 33
WATCHED_LANE = 4
"""From above: the lane of the only dark blue car."""
WATCHED_ROWS, WATCHED_BLUE = slice(30, 32), 167 - 24
PLAYER_REACH = 2


class Freeway(AtariGame):
    """ALE/Freeway-v5 without sticky actions.

    The player is the left chicken. +1 for each road crossed; a car throws it back, and for a while it hears nothing.
    The clock ends the game after 2048 steps. The ten cars, each at a speed of its own, are the same in every game and
    never react: a world in which they do has invented it. All ten count as opponents, the dark blue one is read.
    """

    name = "freeway"
    env_id = "ALE/Freeway-v5"
    licence = "ale-py GPL-2.0-only; the ROM's copyright is separate"
    rom = "freeway"
    crop = TOP, LEFT, BOTTOM, RIGHT
    height = width = SIZE
    actions = ACTIONS
    max_episode_steps = 2050
    sign_test_steps = 4  # a little more than a lane
    effects = {"y": tuple(int(row[1] - row[0]) for row in ACTIONS.table)}
    state_names = ("player_y", *(f"opponent_{lane + 1}_x" for lane in range(LANES)))

    def __init__(self) -> None:
        super().__init__()
        # The cartridge begins by what the memory held, which `reset_game` draws anew for every game.
        self._beginning = self._ale.cloneState(include_rng=True)

    @staticmethod
    def native_actions(emulator: Any) -> list:
        return emulator.getMinimalActionSet()

    def visible_state(self) -> np.ndarray:
        """Row of the chicken's middle and columns of the cars', the highest lane first, in frame pixels."""
        self._check_shown("state")
        ram = self._ale.getRAM().astype(float)
        cars = ram[RAM_LOWEST_CAR_X : RAM_LOWEST_CAR_X + LANES][::-1] + CAR_COLUMN
        player = PLAYER_ROW - ram[RAM_PLAYER_Y]
        return np.array([_frame_row(player), *((cars + 0.5 - LEFT) / SCALE_X - 0.5)])

    def is_obeyed(self) -> bool:
        """Whether the chicken is not being thrown back."""
        self._check_shown("chicken")
        return int(self._ale.getRAM()[RAM_THROWN]) == 0

    @classmethod
    def policies(cls) -> Mapping[str, PolicyFactory]:
        from worldsim_envs.games.freeway_policies import UpHolder

        return {
            "mixed": lambda rng: Switching(rng, (HeldRandom, UpHolder)),
            "up": UpHolder,
            "random": HeldRandom,
        }

    def _switch_on(self) -> None:
        self._ale.restoreState(self._beginning)

    @staticmethod
    def player_xy(frame: np.ndarray) -> Position | None:
        """Middle of the left chicken in a frame (64, 64, 3) uint8, in frame pixels; None where it cannot be seen."""
        yellow = _yellow(frame)
        # A yellow car that passes is wider than the chicken's columns.
        beside = sum(yellow[:, columns].sum(axis=1) for columns in NEIGHBOURS)
        rows = np.clip(yellow[:, PLAYER_COLUMNS].sum(axis=1) - beside, 0.0, None)
        rows[MIDDLE_LINE_ROW] = rows[[MIDDLE_LINE_ROW - 1, MIDDLE_LINE_ROW + 1]].mean()
        middle = int(np.convolve(rows, np.ones(3), "same").argmax())
        near = np.arange(max(0, middle - PLAYER_REACH), min(SIZE, middle + PLAYER_REACH + 1))
        if rows[near].sum() < 1.0:
            return None
        return (PLAYER_COLUMN + 0.5 - LEFT) / SCALE_X - 0.5, float(rows[near] @ near / rows[near].sum())

    @staticmethod
    def opponent_xy(frame: np.ndarray) -> Position | None:
        """Middle of the dark blue car in a frame (64, 64, 3) uint8, in frame pixels; None where it cannot be seen."""
        strip = _checked(frame)[WATCHED_ROWS]
        cover = np.clip((strip[..., 2] - strip[..., 0]) / WATCHED_BLUE, 0.0, 1.0).sum(axis=0)
        if cover.sum() < 1.0:
            return None
        return float(cover @ np.arange(SIZE) / cover.sum()), (WATCHED_ROWS.start + WATCHED_ROWS.stop - 1) / 2


def _frame_row(row: float) -> float:
    return (row + 0.5 - TOP) / SCALE_Y - 0.5


def _yellow(frame: np.ndarray) -> np.ndarray:
    """(64, 64) share of each pixel that is as yellow as the chicken; what is hardly yellow counts for nothing."""
    picture = _checked(frame)
    share = (picture[..., :2].min(axis=-1) - picture[..., 2]) / PLAYER_YELLOW
    return np.where(share < 0.15, 0.0, np.clip(share, 0.0, 1.0))


def _checked(frame: np.ndarray) -> np.ndarray:
    if frame.shape != (SIZE, SIZE, 3) or frame.dtype != np.uint8:
        raise ValueError(f"frame is {frame.dtype} {frame.shape}; positions are read from uint8 ({SIZE}, {SIZE}, 3)")
    return frame.astype(np.float64)
