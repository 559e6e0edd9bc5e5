"""A real game with the face of a gymnasium environment, as its imagined world has it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded

from worldsim_envs.games import Game, make_game


class RealEnv(gym.Env):
    """A source game through its adapter: the spaces, frames and frame skip that its worlds have.

    game:              a name of `games.game_names()`, `module:Class`, or a class of adapters.
    max_episode_steps: frames until `truncated`; None leaves the end to the game.

    It imports no torch, so that many of them run in processes of their own: `gymnasium.vector.AsyncVectorEnv`.
    """

    metadata = {"render_modes": []}

    def __init__(self, game: str | type[Game] = "boxing", *, max_episode_steps: int | None = None) -> None:
        if max_episode_steps is not None and max_episode_steps < 1:
            raise ValueError(f"max_episode_steps={max_episode_steps}; give a number of frames from 1, or None")
        self.game = make_game(game) if isinstance(game, str) else game()
        self.limit = max_episode_steps
        self.observation_space = gym.spaces.Box(0, 255, (self.game.height, self.game.width, 3), np.uint8)
        self.action_space = self.game.actions.space()
        self._count: int | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Start the game with an opening that the seed decides: observation (H, W, 3) uint8 and info."""
        if options:
            raise ValueError(f"unknown reset option {sorted(options)[0]!r}; a real game has none")
        super().reset(seed=seed)
        self._count = 0
        return self.game.reset(int(self.np_random.integers(2**31))), {"step": 0}

    def step(self, action):
        """Play one native action: observation (H, W, 3) uint8, reward, terminated, truncated, info."""
        if self._count is None:
            raise ResetNeeded("call reset() before step()")
        frame, reward, ended = self.game.step(_plain(action))
        self._count += 1
        truncated = not ended and self.limit is not None and self._count >= self.limit
        info = {"step": self._count}
        if ended or truncated:
            self._count = None
        return frame, float(reward), bool(ended), truncated, info

    def close(self) -> None:
        """Release the game."""
        self.game.close()


def _plain(action: Any) -> Any:
    return int(action) if np.ndim(action) == 0 else np.asarray(action)
