"""Doom's scenarios, played through ViZDoom with the free Freedoom assets."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from worldsim.action import ActionSpec, Channel
from worldsim_envs.games.base import Game, PolicyFactory, Position
from worldsim_envs.games.gymnasium_game import shrink
from worldsim_envs.games.policies import HeldRandom, Switching

SKIP = 4
TICS_PER_SECOND = 35
_STARTING = threading.Lock()


@dataclass(frozen=True)
class Playthrough:
    """A save state: the seed and all actions since the reset, which lead to the same bytes again."""

    seed: int
    actions: tuple[int, ...]
    frame: np.ndarray
    ended: bool


class DoomGame(Game):
    """A scenario of ViZDoom, 4 tics a step, drawn as its own file has it: neither status bar nor flashes.

    A subclass gives `scenario`, `actions` and, for each of their channels, the button of ViZDoom, `buttons`. The
    picture after the game's end is black: the last one stays. A time limit of the file's own is taken off;
    `max_episode_steps` takes its place. ViZDoom's own saves do not go on as the game would have, so a save state is
    played again from its seed.
    """

    scenario: ClassVar[str]
    """Name of a file among ViZDoom's scenarios, without its end."""
    buttons: ClassVar[Mapping[str, str]]
    """For each channel the button of ViZDoom; the channels in the order of the scenario's buttons."""
    skill: ClassVar[int | None] = None
    """Doom's skill, 1 to 5, by which monsters do more or less harm; None: as the scenario's file has it."""
    arguments: ClassVar[str] = ""
    """Further arguments for the engine's command line."""
    opening_steps: ClassVar[int] = 10
    """At most so many steps of random play begin an episode, unseen."""
    licence = "ViZDoom MIT, its ZDoom engine under several licences; Freedoom BSD-3-Clause"
    packages = ("vizdoom",)
    fps = round(TICS_PER_SECOND / SKIP)
    height, width = 96, 128

    def __init__(self) -> None:
        self._doom = _start_doom(self.scenario, self.name, skill=self.skill, arguments=self.arguments)
        has = [button.name for button in self._doom.get_available_buttons()]
        if has != list(self.buttons.values()):
            raise ValueError(f"{self.scenario} has the buttons {has}; {self.name} names {list(self.buttons.values())}")
        self._frame: np.ndarray | None = None
        self._seed, self._played, self._ended = 0, [], True

    def reset(self, seed: int | np.random.SeedSequence) -> np.ndarray:
        """Start an episode after 0 to `opening_steps` steps of random play, drawn from the seed."""
        rng = np.random.default_rng(seed)
        self._start(int(rng.integers(1 << 31)))
        opening = HeldRandom(rng)
        for _ in range(rng.integers(self.opening_steps, endpoint=True)):
            self.step(opening(self))
        return self._frame.copy()

    def step(self, action: int) -> tuple[np.ndarray, float, bool]:
        vector = self.actions.encode(action)
        if vector.ndim != 1:
            raise ValueError(f"action has shape {np.shape(action)}; give one integer")
        if self._ended:
            raise RuntimeError("there is no episode to step; call reset(seed) first")
        reward = self._doom.make_action([float(held) for held in vector], SKIP)
        self._played.append(int(action))
        self._ended = self._doom.is_episode_finished()
        self._frame = self._look()
        return self._frame.copy(), self._points(reward), self._ended

    def save(self) -> Playthrough:
        if self._frame is None:
            raise RuntimeError("there is no episode to save; call reset(seed) first")
        return Playthrough(self._seed, tuple(self._played), self._frame.copy(), self._ended)

    def restore(self, state: Playthrough) -> np.ndarray:
        self._start(state.seed)
        for i, action in enumerate(state.actions, start=1):
            self._doom.set_action(self.actions.encode(action).tolist())
            self._doom.advance_action(SKIP, i == len(state.actions))  # draws the last picture only
        self._played, self._frame, self._ended = list(state.actions), state.frame.copy(), state.ended
        return self._frame.copy()

    def close(self) -> None:
        self._doom.close()
        self._frame, self._ended = None, True

    def objects(self) -> list[tuple[str, np.ndarray]]:
        """Name of everything in the scene and where it is and how it moves: (4,) x, y, dx, dy in map units, per tic.

        Empty after the end.
        """
        state = self._doom.get_state()
        if state is None:
            return []
        return [
            (each.name, np.array([each.position_x, each.position_y, each.velocity_x, each.velocity_y]))
            for each in state.objects
        ]

    def player(self) -> np.ndarray:
        """Where the player stands and looks: (3,) x and y in map units, and degrees from +x towards +y in [-180, 180).

        NaN after the end.
        """
        state = self._doom.get_state()
        if state is None:
            return np.full(3, np.nan)
        each = next(each for each in state.objects if each.name == "DoomPlayer")
        return np.array([each.position_x, each.position_y, turn_between(0.0, each.angle)])

    def _points(self, points: float) -> float:
        """The reward to record of the step that was just played, for which the game gave so many points."""
        return float(points)

    def _start(self, seed: int) -> None:
        self._doom.set_seed(seed)
        self._doom.new_episode()
        self._seed, self._played, self._ended = seed, [], False
        self._frame = self._look()

    def _look(self) -> np.ndarray:
        state = self._doom.get_state()
        return self._frame if state is None else shrink(state.screen_buffer, self.height, self.width)


# The room of take_cover in map units: the player walks along y, facing the far wall; left is +y.
MIDDLE_Y, FAR_WALL_DISTANCE, ROOM_WIDTH = 384.0, 508.0, 768.0
FOCAL_PIXELS = 64.0
"""Half of the width: the picture spans 90 degrees."""
FAR_WALL_PIXELS = round(FOCAL_PIXELS * ROOM_WIDTH / FAR_WALL_DISTANCE)
"""Width of the far wall, which is as far from every place where the player can stand."""

# Rows with nothing but walls, and a row above, which the far wall does not reach. Doom shades walls by the way they
# face, so that the far wall is a little redder than the far ends of the others: levels of red over blue.
WALL_ROWS, ROW_ABOVE = slice(40, 51), 35
FAR_WALL_RED, BROWN = 38.5, 15.0
LEAST_AGREEING = 0.8
"""Share of columns that must look as they should if the far wall is where it seems to be."""


class TakeCover(DoomGame):
    """ViZDoom's take_cover: strafe out of the way of the fireballs that ever more imps throw.

    +1 for every tic alive, so 4 a step; the episode ends with the player's death. The return of 750 that counts as
    solving it is in tics, too. The player's health is not to be seen.
    """

    name = "take_cover"
    env_id = "VizdoomTakeCover-v1"
    scenario = "take_cover"
    buttons = {"left": "MOVE_LEFT", "right": "MOVE_RIGHT"}
    max_episode_steps = 525  # 2100 tics, as in arXiv 1803.10122
    actions = ActionSpec(
        [Channel("left"), Channel("right")],
        [[0, 0], [1, 0], [0, 1]],
        names=("NOOP", "LEFT", "RIGHT"),
        keys={"left": ("left", "a"), "right": ("right", "d")},
    )
    effects = {"x": (0, -1, 1)}
    state_names = ("player_x", "fireball_x")
    draws_player = False

    def visible_state(self) -> np.ndarray:
        """Where the player stands, as `player_xy` has it, and the column of the nearest fireball in view, else NaN."""
        if self._frame is None:
            raise RuntimeError("there is no state; call reset(seed) first")
        columns = [column for column, _ in fireballs(self.objects()) if 0 <= column < self.width]
        return np.array([_player_column(self.player()[1]), columns[0] if columns else np.nan])

    @classmethod
    def policies(cls) -> Mapping[str, PolicyFactory]:
        from worldsim_envs.games.doom_policies import Dodger

        return {
            "mixed": lambda rng: Switching(rng, (HeldRandom, Dodger)),
            "dodger": Dodger,
            "random": HeldRandom,
        }

    @staticmethod
    def player_xy(frame: np.ndarray) -> Position | None:
        """Where the player stands, read off the far wall: x grows to the right, in pixels that this wall shifts by.

        0 is the middle of the room. None in a picture without that wall.
        """
        if frame.shape != (96, 128, 3) or frame.dtype != np.uint8:
            raise ValueError(f"frame is {frame.dtype} {frame.shape}; positions are read from uint8 (96, 128, 3)")
        red = frame[..., 0].astype(np.float64) - frame[..., 2]
        far = (np.median(red[WALL_ROWS], axis=0) > FAR_WALL_RED) & (red[ROW_ABOVE] < BROWN)
        lefts = np.arange(-34, 66)
        agreeing = [_agreeing(far, left) for left in lefts]
        if max(agreeing) < LEAST_AGREEING:
            return None
        left = lefts[agreeing == np.max(agreeing)].mean()
        return float(63.5 - (FAR_WALL_PIXELS - 1) / 2 - left), (WALL_ROWS.start + WALL_ROWS.stop - 1) / 2


def fireballs(things: list[tuple[str, np.ndarray]]) -> list[tuple[float, float]]:
    """Of each fireball that flies towards the player the column in frame pixels and the distance, the nearest first."""
    player = next((place for name, place in things if name == "DoomPlayer"), None)
    if player is None:
        return []
    flying = [place for name, place in things if name == "DoomImpBall" and place[2] < 0 and place[0] > player[0] + 16]
    seen = [(63.5 + FOCAL_PIXELS * (player[1] - at[1]) / (at[0] - player[0]), at[0] - player[0]) for at in flying]
    return sorted(seen, key=lambda ball: ball[1])


def _agreeing(far: np.ndarray, left: int) -> float:
    """Share of the columns (W,) bool that are the far wall's just where they would be if it began at a column."""
    wall = np.zeros(len(far), bool)
    wall[max(0, left) : max(0, left + FAR_WALL_PIXELS)] = True
    return float((far == wall).mean())


def _player_column(y: float) -> float:
    return FOCAL_PIXELS * (MIDDLE_Y - y) / FAR_WALL_DISTANCE


def turn_between(angle: float, other: float) -> float:
    """Degrees in [-180, 180) that lead from one angle to another."""
    return (other - angle + 180.0) % 360.0 - 180.0


def _start_doom(scenario: str, title: str, *, skill: int | None, arguments: str) -> Any:
    try:
        import vizdoom
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f'the real game {title} needs vizdoom: pip install "worldsim[doom]"') from None
    doom = vizdoom.DoomGame()
    doom.set_doom_config_path(os.devnull)  # else its settings are written to the working folder, after close() even
    doom.load_config(str(Path(vizdoom.scenarios_path) / f"{scenario}.cfg"))
    doom.set_screen_format(vizdoom.ScreenFormat.RGB24)
    doom.set_screen_resolution(vizdoom.ScreenResolution.RES_256X192)
    doom.set_window_visible(False)
    doom.set_objects_info_enabled(True)
    doom.set_mode(vizdoom.Mode.PLAYER)
    doom.set_episode_timeout(0)
    if skill is not None:
        doom.set_doom_skill(skill)
    doom.add_game_args(arguments)
    with _STARTING, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, contextlib.chdir(folder):
        doom.init()  # makes a folder where it starts, and gives up where another process makes the same just then
    return doom
