"""The worlds inside the package: whole, small, and alive."""

from itertools import product

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
    env = gym.make(f"worldsim/{name.title().replace('_', '')}-v0")
    assert env.observation_space.shape == (info.height, info.width, 3)
    ends = {}
    for start, button in product(range(3), ("left", "right")):  # in one of three the player may be busy
        first, _ = env.reset(seed=1, options={"start": start})
        for _ in range(4):
            frame, reward, *_ = env.step(held(env.unwrapped.actions, button))
        assert np.isfinite(reward) and not np.array_equal(frame, first)
        ends[start, button] = frame.astype(int)
    # The same noise, opposite ways: a sprite stands elsewhere.
    assert max(np.abs(ends[start, "left"] - ends[start, "right"]).max() for start in range(3)) > 64


def held(actions, button):
    """The native action of one held button; the conditions stay as they were."""
    vector = actions.vector(**{button: 1.0})
    return vector if actions.table is None else actions.decode(vector)
