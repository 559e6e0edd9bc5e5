"""A small real game for training tests: a white square in a corner of a 16x24 field, which four buttons move."""

import numpy as np

from worldsim.action import ActionSpec, Channel
from worldsim_envs.games.base import Game
from worldsim_training.collect import CollectConfig, collect
from worldsim_training.dataset import Recording

HEIGHT, WIDTH, SIZE = 16, 24, 8
RIGHT, BOTTOM = WIDTH - SIZE, HEIGHT - SIZE
CHANNELS = ("up", "down", "left", "right")


def draw(x, y):
    """(16, 24, 3) uint8 with the square's top left corner at (x, y)."""
    frame = np.full((HEIGHT, WIDTH, 3), (20, 40, 90), np.uint8)
    frame[y : y + SIZE, x : x + SIZE] = 255
    return frame


def dot_xy(frame):
    """Centre (x, y) of the light in a frame (16, 24, 3) uint8."""
    light = np.clip(frame[..., 0].astype(float) - 60, 0, None)
    rows, columns = np.indices(light.shape)
    return (columns * light).sum() / light.sum(), (rows * light).sum() / light.sum()


class DotGame(Game):
    """A button sends the square to that wall. Ends after 40 steps; to arrive at the right one earns 1."""

    name, env_id, licence, packages = "dot", "Dot-v0", "MIT", ("numpy",)
    fps, height, width, max_episode_steps = 10, HEIGHT, WIDTH, 40
    actions = ActionSpec(
        [Channel(name) for name in CHANNELS],
        [[name == held for name in CHANNELS] for held in ("stay", *CHANNELS)],
        names=("stay", *CHANNELS),
    )

    def reset(self, seed):
        rng = np.random.default_rng(seed)
        self.x, self.y = (int(most * rng.integers(2)) for most in (RIGHT, BOTTOM))
        self.steps = 0
        return draw(self.x, self.y)

    def step(self, action):
        up, down, left, right = self.actions.encode(int(action)).astype(int)
        reward = float(right and self.x == 0)
        self.x = int(np.clip(self.x + RIGHT * (right - left), 0, RIGHT))
        self.y = int(np.clip(self.y + BOTTOM * (down - up), 0, BOTTOM))
        self.steps += 1
        return draw(self.x, self.y), reward, self.steps == self.max_episode_steps

    def save(self):
        return self.x, self.y, self.steps

    def restore(self, state):
        self.x, self.y, self.steps = state
        return draw(self.x, self.y)

    def close(self):
        pass

    @classmethod
    def policies(cls):
        return {"random": lambda rng: lambda game: int(rng.integers(len(game.actions.table)))}


class InverseDotGame(DotGame):
    """The same game in other pictures, with a policy more."""

    def reset(self, seed):
        return 255 - super().reset(seed)

    def step(self, action):
        frame, *rest = super().step(action)
        return 255 - frame, *rest

    @classmethod
    def policies(cls):
        return super().policies() | {"still": lambda rng: lambda game: 0}


def dot_recording(folder, frames=2000, split="train"):
    """Recorded play of the game."""
    collect(CollectConfig(out=str(folder), game="dot", frames=frames, workers=1), DotGame)
    return Recording.load(folder, split, progress=False)
