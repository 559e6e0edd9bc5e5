"""A source game whose frames tell everything: red counts the steps, green shows the action that led there."""

from __future__ import annotations

import numpy as np

from worldsim.action import ActionSpec, Channel
from worldsim_envs.games.base import Game
from worldsim_envs.games.policies import HeldRandom, Switching


class CountingGame(Game):
    """Ends after 4 to 12 steps, as its seed says. Action 2 earns 1. Blue is another random number from the seed."""

    name = "counting"
    env_id = "Counting-v0"
    licence = "MIT"
    packages = ("numpy",)
    fps = 10
    height, width = 6, 9
    actions = ActionSpec([Channel("left"), Channel("right")], [[0, 0], [1, 0], [0, 1]], names=("stay", "left", "right"))
    max_episode_steps = 12

    def reset(self, seed):
        rng = np.random.default_rng(seed)
        self.length, self.mark = int(rng.integers(4, 13)), int(rng.integers(256))
        self.count, self.action = 0, -1
        return self._frame()

    def step(self, action):
        self.count, self.action = self.count + 1, int(action)
        return self._frame(), float(action == 2), self.count == self.length

    def save(self):
        return self.length, self.mark, self.count, self.action

    def restore(self, state):
        self.length, self.mark, self.count, self.action = state
        return self._frame()

    def close(self):
        pass

    @classmethod
    def policies(cls):
        return {"random": HeldRandom, "switching": lambda rng: Switching(rng, (HeldRandom,))}

    def _frame(self):
        frame = np.empty((self.height, self.width, 3), np.uint8)
        frame[:] = self.count, self.action + 1, self.mark
        return frame


class LargeCountingGame(CountingGame):
    """The same with frames that a policy's network can see."""

    height, width = 16, 24
