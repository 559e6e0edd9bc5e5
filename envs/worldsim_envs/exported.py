"""An exported world as a gymnasium environment, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded

from worldsim.action import ActionSpec
from worldsim.exported.world import OnnxState, OnnxWorld
from worldsim_envs.faults import NOT_FINITE
from worldsim_envs.role import Role
from worldsim_envs.rules import frame_limit, known_options

OPTIONS = ("start", "steps", "conditions")


class ExportedEnv(gym.Env):
    """A game that an exported network paints: as `WorldEnv`, by numpy and onnxruntime alone.

    world:             the folder that `worldsim export` wrote, or an `OnnxWorld`, which environments may share.
    steps:             denoising steps a frame; None takes the world's default.
    threads:           of the processor; None takes all cores. An `OnnxWorld` keeps its own.
    max_episode_steps: frames until `truncated`; None takes the world's own limit, -1 sets none.
    fixed:             conditions that are no part of the action, as in `WorldEnv`.

    The same seed begins at the same start state with the same noise as in `WorldEnv`; frames differ by rounding from
    the first one on. Actions, observations, `info`, faults and `conditions` are those of `WorldEnv`; there are no save
    files, forks or pasts of the caller's own.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}

    def __init__(
        self,
        world: str | Path | OnnxWorld,
        *,
        render_mode: str | None = None,
        steps: int | None = None,
        threads: int | None = None,
        max_episode_steps: int | None = None,
        fixed: Mapping[str, str | None] | None = None,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"unknown render_mode {render_mode!r}; an exported world has None or 'rgb_array'")
        self.world = world if isinstance(world, OnnxWorld) else OnnxWorld(world, threads=threads)
        info = self.world.info
        self.render_mode, self.metadata = render_mode, {**type(self).metadata, "render_fps": int(info["fps"])}
        self.observation_space = gym.spaces.Box(0, 255, (info["height"], info["width"], 3), np.uint8)
        self.role = Role(self.world.actions, fixed)
        self.action_space = self.role.space
        limit = frame_limit(max_episode_steps, info["max_episode_steps"])
        self._limit = np.inf if limit is None else limit
        self._steps = self._usual_steps = self.world.checked_steps(info["default_steps"] if steps is None else steps)
        self._state: OnnxState | None = None
        self._start, self._over = 0, False

    @property
    def actions(self) -> ActionSpec:
        """What the actions mean, as `WorldEnv.actions`."""
        return self.role.actions

    @property
    def conditions(self) -> dict[str, str]:
        """Group -> value of what holds in this scene, as `WorldEnv.conditions`; may be set while playing."""
        return self.world.conditions(self._playing())

    @conditions.setter
    def conditions(self, conditions: Mapping[str, str]) -> None:
        self.world.set_conditions(self._playing(), conditions)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Start an episode at one of the world's start states.

        options, all optional: `start`, `steps` and `conditions`, as in `WorldEnv.reset`. Raises ValueError in one line
        for anything else and then leaves the running episode as it was.
        """
        options = known_options(options, OPTIONS)
        steps, asked = self.world.checked_steps(options.get("steps", self._usual_steps)), options.get("conditions")
        self.world.check_start(options.get("start", 0))
        self.world.actions.condition_vector(asked)
        super().reset(seed=seed)
        # All are always drawn, in this order, as WorldEnv draws them.
        drawn, noise_seed = (int(self.np_random.integers(most)) for most in (len(self.world.start_frames), 2**63 - 1))
        fixed = self.role.draw(self.np_random)
        start = options.get("start", drawn)
        self._state = self.world.reset(start=start, seed=noise_seed, conditions=asked)
        self.world.set_conditions(self._state, fixed | dict(asked or {}))
        self._steps, self._start, self._over = steps, start, False
        return self._state.last.copy(), self._info()

    def step(self, action):
        """Paint and commit the frame that the action leads to.

        action: one of the source game's own. Returns observation (H, W, 3) uint8, reward, terminated, truncated, info.
        Raises ValueError in one line for any other action and then leaves the episode as it was.
        """
        state = self._playing()
        if self._over:
            raise ResetNeeded("the episode is over; call reset()")
        vector = self.role.encode(action)
        if vector.ndim != 1:
            raise ValueError(f"action has shape {np.shape(action)}; give one action of {self.action_space}")
        done = self.world.step(state, vector, steps=self._steps)
        frame, info = done.frame.copy(), self._info()
        if np.isnan(done.reward):
            self._over = True
            return frame, 0.0, False, True, info | {"fault": NOT_FINITE}
        truncated = bool(state.step_count >= self._limit)
        self._over = done.ended or truncated
        return frame, done.reward, done.ended, truncated, info

    def render(self) -> np.ndarray | None:
        """The current frame (H, W, 3) uint8 in mode "rgb_array"."""
        return None if self.render_mode is None else self._playing().last.copy()

    def _playing(self) -> OnnxState:
        if self._state is None:
            raise ResetNeeded("there is no episode yet; call reset() first")
        return self._state

    def _info(self) -> dict[str, Any]:
        return {"step": self._state.step_count, "steps": self._steps, "start": self._start}
