"""TorchRL's `GymWrapper` over worlds, single and in a batch."""

import gymnasium as gym
import pytest
import torch
from tiny import HEIGHT, WIDTH

import worldsim  # noqa: F401 - registers the ids

pytest.importorskip("torchrl", reason="needs torchrl: pip install torchrl")

from torchrl.envs import GymWrapper
from torchrl.envs.utils import check_env_specs

pytestmark = pytest.mark.usefixtures("one_thread")


def test_torchrls_own_check_passes_and_a_rollout_has_the_worlds_pixels(folder):
    env = GymWrapper(gym.make("worldsim/Boxing-v0", world=folder))
    check_env_specs(env)
    env.set_seed(3)
    played = env.rollout(5)
    assert played["pixels"].shape == (5, HEIGHT, WIDTH, 3) and played["pixels"].dtype == torch.uint8
    assert played["action"].shape == (5, 18)  # one-hot, as TorchRL has it
    plain = gym.make("worldsim/Boxing-v0", world=folder)
    first, _ = plain.reset(seed=3)
    assert first.dtype == "uint8" and played["next", "reward"].shape == (5, 1)


@pytest.mark.parametrize("mode", ["SameStep", "Disabled"])
def test_a_batch_passes_its_check_and_resets_the_worlds_whose_episodes_end(folder, mode):
    worlds = gym.make_vec("worldsim/Boxing-v0", num_envs=3, world=folder, autoreset_mode=mode, max_episode_steps=3)
    env = GymWrapper(worlds)
    check_env_specs(env)
    played = env.rollout(7, break_when_any_done=False)
    assert played["observation"].shape == (3, 7, HEIGHT, WIDTH, 3)
    assert played["next", "truncated"][:, :, 0].sum(dim=1).tolist() == [2, 2, 2]
    assert not played["next", "observation"][:, 2].equal(
        played["observation"][:, 3]
    )  # the end is not the next beginning
