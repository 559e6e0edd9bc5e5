"""Any game of gymnasium's registry as a source game: an adapter states facts, this class does the rest."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from worldsim_envs.games.base import Game, PolicyFactory
from worldsim_envs.games.policies import HeldRandom


@dataclass(frozen=True)
class Snapshot:
    """A save state: a copy of the environment with its random generator, and what was shown when it was taken."""

    env: gym.Env
    frame: np.ndarray
    ended: bool


class GymnasiumGame(Game):
    """A gymnasium environment, seen as `Game` asks: frames (height, width, 3) uint8 of a part of its picture.

    A subclass states the facts that `Game` names and, where the defaults do not fit, those below. `picture`, `reward`
    and `policies` are there to be overridden; so are `save` and `restore`, where a deep copy of the environment is not
    its exact state (`check_game` tells).

    gymnasium's own time limit is taken off: `max_episode_steps` takes its place. A truncation that the environment
    itself decides counts as an end. A Box of other bounds than the channels' is stretched onto them: of Pendulum's,
    -2 to 2, an axis of -1 to 1 takes all.
    """

    env_module: ClassVar[str | None] = None
    """Module whose import registers `env_id`; None for gymnasium's own."""
    env_kwargs: ClassVar[Mapping[str, Any]] = {}
    """Further arguments of `gymnasium.make`."""
    env_actions: ClassVar[tuple[int, ...] | None] = None
    """The environment's action for each of `actions`; None where both are the same."""
    crop: ClassVar[tuple[int, int, int, int] | None] = None
    """(top, left, bottom, right) in pixels of the picture: the part that a frame shows; None for all of it."""

    def __init__(self) -> None:
        self.env = self._make()
        self._check_actions()
        self._frame: np.ndarray | None = None
        self._ended = True

    def picture(self, observation: Any) -> np.ndarray:
        """What the game shows, (H, W, 3) uint8 of any size: its rgb_array rendering, unless overridden."""
        try:
            return self.env.render()
        except gym.error.DependencyNotInstalled as error:
            raise ModuleNotFoundError(f"the real game {self.name} cannot draw itself: {error}") from None

    def reward(self, reward: float) -> float:
        """The reward to record. The reward head picks one of the values that it saw: give only a few different ones."""
        return float(reward)

    @classmethod
    def policies(cls) -> Mapping[str, PolicyFactory]:
        return {"random": HeldRandom}

    def reset(self, seed: int | np.random.SeedSequence) -> np.ndarray:
        if isinstance(seed, np.random.SeedSequence):
            seed = int(seed.generate_state(1)[0]) >> 1  # environments written in C often take 31 bits
        observation, _ = self.env.reset(seed=seed)
        self._frame, self._ended = self._look(observation), False
        return self._frame.copy()

    def step(self, action: Any) -> tuple[np.ndarray, float, bool]:
        self.actions.encode(action)
        if self._ended:
            raise RuntimeError("there is no episode to step; call reset(seed) first")
        native = action if self.env_actions is None else self.env_actions[action]
        observation, reward, terminated, truncated, _ = self.env.step(native)
        self._frame, self._ended = self._look(observation), bool(terminated or truncated)
        return self._frame.copy(), self.reward(reward), self._ended

    def save(self) -> Snapshot:
        if self._frame is None:
            raise RuntimeError("there is no episode to save; call reset(seed) first")
        return Snapshot(self._copy(self.env), self._frame.copy(), self._ended)

    def restore(self, state: Snapshot) -> np.ndarray:
        self.env, self._frame, self._ended = self._copy(state.env), state.frame.copy(), state.ended
        return self._frame.copy()

    def close(self) -> None:
        self.env.close()
        self._frame, self._ended = None, True

    def _make(self) -> gym.Env:
        name = self.env_id if self.env_module is None else f"{self.env_module}:{self.env_id}"
        try:
            return gym.make(name, render_mode="rgb_array", max_episode_steps=-1, **self.env_kwargs)
        except ModuleNotFoundError as error:
            if all(map(_is_installed, self.packages)):
                raise ValueError(f"{self.name} does not start: {error}") from error
            needed = " ".join(self.packages)
            raise ModuleNotFoundError(f"the real game {self.name} needs {needed}: pip install {needed}") from error
        except gym.error.UnregisteredEnv as error:
            raise ValueError(f"{self.name} does not start: {error}; env_id and env_module say what is made") from None
        except TypeError as error:
            if not self.env_kwargs:
                raise
            raise ValueError(f"{self.name} does not start with env_kwargs {dict(self.env_kwargs)}: {error}") from error

    def _check_actions(self) -> None:
        if self.actions.table is None:
            self._stretch()
            return
        space, table = self.env.action_space, self.actions.table
        if not isinstance(space, gym.spaces.Discrete) or space.start != 0:
            raise ValueError(f"{self.env_id} takes {space}; an action table needs a Discrete space that starts at 0")
        natives = range(space.n) if self.env_actions is None else self.env_actions
        if len(natives) != len(table):
            counts = f"{len(table)} actions for {len(natives)} of {self.env_id}"
            raise ValueError(f"{self.name} names {counts}; give the table a row for each")
        if wrong := [native for native in natives if native not in space]:
            raise ValueError(f"{self.name} has env_actions {wrong}; {self.env_id} takes 0..{space.n - 1}")

    def _stretch(self) -> None:
        """Change `env` so that its Box is that of the channels. ValueError where there is none of the same shape."""
        space, channels = self.env.action_space, self.actions.channel_space()
        if not isinstance(space, gym.spaces.Box) or space.shape != channels.shape or not space.is_bounded():
            asked = f"without an action table it must be a bounded Box of shape {channels.shape}, one for each channel"
            raise ValueError(f"{self.env_id} takes {space}; {asked}")
        if not (np.array_equal(space.low, channels.low) and np.array_equal(space.high, channels.high)):
            self.env = gym.wrappers.RescaleAction(self.env, channels.low, channels.high)

    def _copy(self, env: gym.Env) -> gym.Env:
        # pygame's clocks and canvases cannot be copied and tell nothing of the game: copies share them.
        shared = {id(each): each for each in vars(env.unwrapped).values() if type(each).__module__.startswith("pygame")}
        try:
            return copy.deepcopy(env, shared)
        except TypeError as error:
            raise ValueError(f"{self.env_id} cannot be copied ({error}); override save and restore") from None

    def _look(self, observation: Any) -> np.ndarray:
        picture = np.asarray(self.picture(observation))
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f"{self.name} shows {picture.dtype} {picture.shape}; picture() must be uint8 (H, W, 3)")
        if self.crop is not None:
            picture = _cut(picture, self.crop)
        return shrink(picture, self.height, self.width)


def _is_installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def shrink(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture (H, W, 3) uint8 as a frame (height, width, 3) uint8, each pixel the mean of its area, halves up.

    Exact, so the same on every machine: the sums are whole numbers, which float64 holds without rounding.
    """
    rows, columns = _shares(picture.shape[0], height), _shares(picture.shape[1], width)
    sums = columns @ np.tensordot(rows, picture.astype(np.float64), 1)
    area = int(rows[0].sum() * columns[0].sum())
    return ((sums.astype(np.int64) + area // 2) // area).astype(np.uint8)


@cache
def _shares(pixels: int, parts: int) -> np.ndarray:
    """(parts, pixels): how much of each pixel lies in each of that many equal parts, in whole numbers."""
    unit = math.lcm(pixels, parts)
    owner = np.arange(unit)
    shares = np.zeros((parts, pixels))
    np.add.at(shares, (owner // (unit // parts), owner // (unit // pixels)), 1.0)
    return shares


def _cut(picture: np.ndarray, crop: tuple[int, int, int, int]) -> np.ndarray:
    top, left, bottom, right = crop
    if not (0 <= top < bottom <= picture.shape[0] and 0 <= left < right <= picture.shape[1]):
        there = f"a picture of {picture.shape[0]}x{picture.shape[1]}"
        raise ValueError(f"crop {crop} leaves {there}; give (top, left, bottom, right) inside it")
    return picture[top:bottom, left:right]
