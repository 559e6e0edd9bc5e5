"""The worlds inside the package: whole, small, and alive."""

from itertools import product

import gymnasium as gym
import numpy as np
import pytest

import worldsim
from worldsim.worlds import list_worlds, world_path

LARGEST_BYTES = 30_000_000
OPPOSITES = ({"left": 1.0}, {"right": 1.0}), ({"up": 1.0}, {"down": 1.0}), ({"steer": -1.0}, {"steer": 1.0})


@pytest.mark.parametrize("name", list_worlds())
def test_its_folder_is_small(name):
    assert sum(file.stat().st_size for file in world_path(name).rglob("*") if file.is_file()) <= LARGEST_BYTES


@pytest.mark.parametrize("name", list_worlds())
def test_it_loads_and_its_pictures_answer_to_the_action(name):
    info = worldsim.WorldModel.from_pretrained(name).info
    (known,) = (spec.id for spec in gym.registry.values() if spec.kwargs.get("world") == name)
    env = gym.make(known)
    assert env.observation_space.shape == (info.height, info.width, 3)
    ends = {}
    for start, way in product(range(3), (0, 1)):  # in one of three the player may be busy
        first, _ = env.reset(seed=1, options={"start": start})
        for _ in range(4):
            frame, reward, *_ = env.step(opposites(env.unwrapped.actions)[way])
        assert np.isfinite(reward) and not np.array_equal(frame, first)
        ends[start, way] = frame.astype(int)
    # The same noise, opposite ways: a sprite stands elsewhere.
    assert max(np.abs(ends[start, 0] - ends[start, 1]).max() for start in range(3)) > 64


def opposites(actions):
    """Two native actions, one the other way; the conditions stay as they were."""
    names = {channel.name for channel in actions.channels}
    pair = next(pair for pair in OPPOSITES if names.issuperset(pair[0] | pair[1]))
    vectors = [actions.vector(**pushed) for pushed in pair]
    return vectors if actions.table is None else [actions.decode(vector) for vector in vectors]
