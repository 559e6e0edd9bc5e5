"""A real game with the face of a gymnasium environment, as its imagined world has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded

from worldsim_envs.games import Game, make_game


@dataclass(frozen=True)
class RealState:
    """A save state, valid as long as its environment is open."""

    game: Any
    frame: np.ndarray
    step: int
    over: bool


class RealEnv(gym.Env):
    """A source game through its adapter: the spaces, frames (H, W, 3) uint8 and frame skip that its worlds have.

    game:              a name of `games.game_names()`, `module:Class`, or a class of adapters.
    max_episode_steps: frames until `truncated`; None leaves the end to the game.
    render_mode:       None or "rgb_array".

    It imports no torch, so that many of them run in processes of their own: `gymnasium.vector.AsyncVectorEnv`.
    """

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(
        self,
        game: str | type[Game] = "boxing",
        *,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"unknown render_mode {render_mode!r}; a real game has None or 'rgb_array'")
        if max_episode_steps is not None and max_episode_steps < 1:
            raise ValueError(f"max_episode_steps={max_episode_steps}; give a number of frames from 1, or None")
        self.game = make_game(game) if isinstance(game, str) else game()
        self.limit, self.render_mode = max_episode_steps, render_mode
        self.metadata = {**type(self).metadata, "render_fps": self.game.fps}
        self.observation_space = gym.spaces.Box(0, 255, (self.game.height, self.game.width, 3), np.uint8)
        self.action_space = self.game.actions.space()
        self._frame: np.ndarray | None = None
        self._over, self._painted = True, None

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None):
        """Start the game with an opening that the seed decides: observation and info."""
        super().reset(seed=seed)
        self._frame, self._count = self._opening(options or {}), 0
        self._over, self._painted = False, None
        return self._frame.copy(), self._info()

    def step(self, action):
        """Play one of the game's own actions: observation, reward, terminated, truncated, info.

        Raises ValueError in one line for any other action and then leaves the episode as it was.
        """
        observation = self.paint(action)
        return observation, *self.commit()

    def paint(self, action) -> np.ndarray:
        """The first half of `step`: the next observation. `commit` must follow."""
        if self._over or self._painted is not None:
            over = "the episode is over or was never begun; call reset()"
            raise ResetNeeded(over if self._over else "call commit() before paint()")
        if self.game.actions.encode(action).ndim != 1:
            raise ValueError(f"action has shape {np.shape(action)}; give one action of {self.action_space}")
        self._frame, reward, ended = self.game.step(plain(action))
        self._painted = float(reward), bool(ended)
        return self._frame.copy()

    def commit(self) -> tuple[float, bool, bool, dict[str, Any]]:
        """The second half of `step`: reward, terminated, truncated, info."""
        if self._painted is None:
            raise ResetNeeded("there is no new frame; call paint(action) first")
        (reward, ended), self._painted = self._painted, None
        self._count += 1
        truncated = not ended and self.limit is not None and self._count >= self.limit
        self._over = ended or truncated
        return reward, ended, truncated, self._info()

    def save_state(self) -> RealState:
        """The game as it stands, for `load_state`."""
        return RealState(self.game.save(), self._frame.copy(), self._count, self._over)

    def load_state(self, state: RealState) -> tuple[np.ndarray, dict[str, Any]]:
        """Go on from a state of this environment, exactly: observation and info."""
        self.game.restore(state.game)
        self._frame, self._count, self._over, self._painted = state.frame.copy(), state.step, state.over, None
        return self._frame.copy(), self._info()

    @property
    def conditions(self) -> dict[str, str]:
        """Empty: what holds in a real game it knows by itself, or an action says it."""
        return {}

    def render(self) -> np.ndarray | None:
        """The current frame (H, W, 3) uint8 in mode "rgb_array"."""
        if self.render_mode is None:
            return None
        if self._frame is None:
            raise ResetNeeded("there is no frame yet; call reset() before render()")
        return self._frame.copy()

    def close(self) -> None:
        """Release the game."""
        self.game.close()

    def _opening(self, options: Mapping[str, Any]) -> np.ndarray:
        """The frame where an episode begins; all chance comes from `np_random`."""
        if options:
            raise ValueError(f"unknown reset option {sorted(options)[0]!r}; a real game has none")
        return self.game.reset(int(self.np_random.integers(2**31)))

    def _info(self) -> dict[str, Any]:
        return {"step": self._count}


def plain(action: Any) -> Any:
    """An action as a source game takes it: a Python number, or an array (A,)."""
    return int(action) if np.ndim(action) == 0 else np.asarray(action)
