"""A game of a user's own: an environment that registers itself, and its adapter."""

import gymnasium as gym
import numpy as np

from worldsim.action import ActionSpec, Channel
from worldsim_envs.games import GymnasiumGame


class SlideEnv(gym.Env):
    """A white bar slides along a field of 12x20 that is drawn 10 times as large; the right end is the goal."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    action_space = gym.spaces.Discrete(3)
    observation_space = gym.spaces.Discrete(20)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.drift = int(self.np_random.integers(5)), 0
        return self.x, {}

    def step(self, action):
        self.drift = int(self.np_random.integers(2))
        self.x = int(np.clip(self.x + action - 1 + self.drift, 0, 19))
        return self.x, float(self.x == 19), self.x == 19, False, {}

    def render(self):
        field = np.full((12, 20, 3), (20, 60, 120), np.uint8)
        field[:, self.x] = 255
        return field.repeat(10, axis=0).repeat(10, axis=1)


gym.register("Slide-v0", entry_point=SlideEnv, max_episode_steps=5)


class Slide(GymnasiumGame):
    name, env_id, licence, packages = "slide", "Slide-v0", "none", ("gymnasium",)
    fps, height, width, max_episode_steps = 10, 8, 16, 30
    crop = (0, 40, 120, 200)
    env_actions = (1, 0, 2)
    actions = ActionSpec(
        [Channel("left"), Channel("right")],
        [[0, 0], [1, 0], [0, 1]],
        names=("rest", "left", "right"),
        keys={"left": ("left",), "right": ("right",)},
    )
