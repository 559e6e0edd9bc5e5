"""The worlds inside the package: whole, small, and alive."""

import gymnasium as gym
import numpy as np
import pytest

import worldsim
from worldsim.worlds import list_worlds, world_path

LARGEST_BYTES = 30_000_000


@pytest.mark.parametrize("name", list_worlds())
def test_its_folder_is_small(name):
    assert sum(file.stat().st_size for file in world_path(name).rglob("*") if file.is_file()) <= LARGEST_BYTES


@pytest.mark.parametrize("name", list_worlds())
def test_it_loads_and_its_pictures_answer_to_the_action(name):
    info = worldsim.WorldModel.from_pretrained(name).info
    env = gym.make(f"worldsim/{name.capitalize()}-v0")
    assert env.observation_space.shape == (info.height, info.width, 3)
    ends = []
    for word in ("LEFT", "RIGHT"):
        start, _ = env.reset(seed=1, options={"start": 0})
        action = env.unwrapped.actions.names.index(word)
        for _ in range(4):
            frame, reward, *_ = env.step(action)
        assert np.isfinite(reward) and not np.array_equal(frame, start)
        ends.append(frame)
    assert np.abs(ends[0].astype(int) - ends[1]).max() > 64  # the same noise, opposite ways: a sprite stands elsewhere
