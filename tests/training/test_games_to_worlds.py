"""Every stage of training on a real game, a few updates each, through to a world that plays."""

import gymnasium as gym
import numpy as np
import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from tiny_run import TINY, TINY_VALIDATION

from worldsim_training.config import register
from worldsim_training.pipeline import Pipeline

pytestmark = pytest.mark.usefixtures("one_thread")


def tiny(name, folder):
    """A world's own configuration, made tiny."""
    register()
    data = {"folder": str(folder / "data"), "frames": 200, "episode_steps": 30, "clip_frames": 4}
    outcomes = {**TINY["outcomes"], "reward_share": 0.0, "end_share": 0.0}
    changes = {"world": {**TINY, "data": data, "outcomes": outcomes}, "out": str(folder / "run"), "device": "cpu"}
    changes |= {"compile": False, "gates": {"enabled": False}, "validation_on_cpu": TINY_VALIDATION}
    with initialize_config_module(config_module="worldsim_training.conf", version_base="1.3"):
        chosen = compose("training", [f"world={name}"])
    return OmegaConf.to_object(OmegaConf.merge(chosen, changes))


@pytest.mark.parametrize(
    ("name", "package", "shape"),
    [
        ("carracing", "Box2D", (96, 96, 3)),
        pytest.param("take_cover", "vizdoom", (96, 128, 3), marks=[pytest.mark.doom, pytest.mark.slow]),
        pytest.param("freeway", "ale_py", (64, 64, 3), marks=[pytest.mark.atari, pytest.mark.slow]),
    ],
)
def test_a_game_becomes_a_world_that_plays(name, package, shape, tmp_path):
    pytest.importorskip(package)
    pipeline = Pipeline(tiny(name, tmp_path))
    assert pipeline.run()
    folder = str(tmp_path / "run" / "world")
    env = gym.make("worldsim/World-v0", world=folder)
    assert env.action_space == pipeline.game.actions.space() and env.observation_space.shape == shape
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(3):
        observation, reward, *_ = env.step(env.action_space.sample())
        assert observation.shape == shape and np.isfinite(reward)
    envs = gym.make_vec("worldsim/World-v0", num_envs=2, world=folder)
    envs.reset(seed=0)
    envs.action_space.seed(0)
    assert envs.step(envs.action_space.sample())[0].shape == (2, *shape)
