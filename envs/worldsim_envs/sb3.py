"""Worlds in a batch as Stable-Baselines3's `VecEnv`.

    worlds = gym.make_vec("worldsim/Boxing-v0", num_envs=16, autoreset_mode="SameStep")
    PPO("CnnPolicy", VecMonitor(WorldVecEnv(worlds))).learn(100_000)

It needs stable-baselines3: pip install "worldsim[rl]".
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv

from worldsim_envs.save_state import SaveState
from worldsim_envs.vector import WorldVectorEnv


class WorldVecEnv(VecEnv):
    """The worlds of a `WorldVectorEnv` in SAME_STEP mode, whose episodes begin anew within their last step.

    worlds: that environment, or what `gymnasium.make_vec` returned. Raises ValueError in one line for any other.

    A world's info holds what the batch tells of it, `TimeLimit.truncated`, and at the end of an episode
    `terminal_observation` (H, W, 3) uint8; a fault is an episode cut off by its limit, with `fault`.
    """

    def __init__(self, worlds: gym.vector.VectorEnv) -> None:
        inner = worlds.unwrapped
        if not isinstance(inner, WorldVectorEnv) or inner.autoreset_mode is not AutoresetMode.SAME_STEP:
            right = 'gymnasium.make_vec("worldsim/Boxing-v0", num_envs=16, autoreset_mode="SameStep")'
            raise ValueError(f"Stable-Baselines3 needs worlds that begin anew within the same step; give {right}")
        if worlds is not inner:
            wrapper = type(worlds).__name__
            raise ValueError(
                f"{wrapper} around the worlds would be left out; wrap this VecEnv by Stable-Baselines3's own"
            )
        self.worlds = worlds
        self._places = [Place(worlds, index) for index in range(worlds.num_envs)]
        self._actions: np.ndarray | None = None
        super().__init__(worlds.num_envs, worlds.single_observation_space, worlds.single_action_space)

    def reset(self) -> np.ndarray:
        """Begin all episodes, under the seeds of `seed` and the options of `set_options`: (N, H, W, 3) uint8."""
        options, *others = self._options
        self._reset_options()
        if not all(_same(each, options) for each in others):
            raise ValueError("a reset has the same options for all worlds; start_loader gives each world a start")
        seeds = self._seeds if any(seed is not None for seed in self._seeds) else None
        observations, infos = self.worlds.reset(seed=seeds, options=options)
        self.reset_infos = [_of_world(infos, world) for world in range(self.num_envs)]
        self._reset_seeds()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Take the actions of the next step."""
        self._actions = np.array(actions)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Play them: observations (N, H, W, 3) uint8, rewards (N,) float32, dones (N,) bool and N infos."""
        observations, rewards, terminated, truncated, told = self.worlds.step(self._actions)
        dones = terminated | truncated
        finals = told.get("final_info", {})
        infos = [_of_world(finals, world) or _of_world(told, world) for world in range(self.num_envs)]
        for world, info in enumerate(infos):
            info["TimeLimit.truncated"] = bool(truncated[world] and not terminated[world])
        for world in np.flatnonzero(dones):
            # An episode that could not begin has no last observation but the present one.
            last = told["final_obs"][world] if "final_obs" in told else None
            infos[world]["terminal_observation"] = observations[world].copy() if last is None else last
            self.reset_infos[world] = _of_world(told, world)
        return observations, rewards.astype(np.float32), dones, infos

    def close(self) -> None:
        """Let go of the worlds."""
        self.worlds.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """The frame (H, W, 3) uint8 of each world, in mode "rgb_array"."""
        return self.worlds.render() or [None] * self.num_envs

    def get_attr(self, attr_name: str, indices=None) -> list[Any]:
        """The attribute of the batch, once for each world asked for."""
        return [getattr(self.worlds, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices=None) -> None:
        """Refused with one line: the worlds share all attributes."""
        raise AttributeError(f"worlds in a batch share {attr_name!r}; give it to gymnasium.make_vec")

    def env_method(self, method_name: str, *method_args, indices=None, **method_kwargs) -> list[Any]:
        """Call a method of `Place` for each world asked for."""
        places = [self._places[index] for index in self._get_indices(indices)]
        return [getattr(place, method_name)(*method_args, **method_kwargs) for place in places]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices=None) -> list[bool]:
        """No world has a wrapper of its own."""
        return [False for _ in self._get_indices(indices)]


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two sets of reset options are the same, arrays and all."""
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


class Place:
    """What can be asked of one world of a batch."""

    def __init__(self, worlds: WorldVectorEnv, index: int) -> None:
        self.worlds, self.index = worlds, index

    def save_state(self) -> SaveState:
        """As `WorldVectorEnv.save_state` of this world."""
        return self.worlds.save_state(self.index)

    def load_state(self, state: SaveState | str | Path) -> np.ndarray:
        """As `WorldVectorEnv.load_state` into this world: its observation (H, W, 3) uint8."""
        return self.worlds.load_state(state, [self.index])[self.index]


def _of_world(infos: dict[str, Any], world: int) -> dict[str, Any]:
    """One world's info out of the batch's, each of whose keys has a mask `_key`."""
    masks = {key: infos[f"_{key}"] for key in infos if f"_{key}" in infos and not key.startswith("final_")}
    told = {key: infos[key][world] for key, mask in masks.items() if mask[world]}
    return {key: value.item() if isinstance(value, np.generic) else value for key, value in told.items()}
