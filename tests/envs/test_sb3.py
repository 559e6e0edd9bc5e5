"""The adapter to Stable-Baselines3 against that package's own `VecEnv` over single worlds."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from tiny import HEIGHT, WIDTH, mortal_world

import worldsim  # noqa: F401 - registers the ids
from worldsim_envs.env import WorldEnv
from worldsim_envs.vector import WorldVectorEnv

pytest.importorskip("stable_baselines3", reason='needs stable-baselines3: pip install "worldsim[rl]"')

from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecMonitor, VecTransposeImage

from worldsim_envs.sb3 import WorldVecEnv

pytestmark = pytest.mark.usefixtures("one_thread")

WORLDS, LIMIT = 3, 4


@pytest.fixture(scope="module")
def mortal(model):
    return mortal_world(model, every=5)


def adapted(model, worlds=WORLDS, **settings):
    return WorldVecEnv(WorldVectorEnv(worlds, model, autoreset_mode=AutoresetMode.SAME_STEP, **settings))


def plain(info):
    return {key: each.tobytes() if isinstance(each, np.ndarray) else each for key, each in info.items()}


def drive(env, steps=10):
    env.seed(5)
    results = [(env.reset().tobytes(), [plain(info) for info in env.reset_infos])]
    rng = np.random.default_rng(0)
    for _ in range(steps):
        observations, rewards, dones, infos = env.step(rng.integers(0, 18, WORLDS))
        assert (observations.dtype, rewards.dtype, dones.dtype) == (np.uint8, np.float32, bool)
        told = [[plain(info) for info in each] for each in (infos, env.reset_infos)]
        results.append((observations.tobytes(), rewards.tolist(), dones.tolist(), *told))
    return results


def test_it_is_the_packages_own_vector_of_single_worlds(mortal):
    reference = DummyVecEnv([lambda: WorldEnv(mortal, max_episode_steps=LIMIT)] * WORLDS)
    right = drive(reference)
    assert drive(adapted(mortal, exact=True, max_episode_steps=LIMIT)) == right
    ends = [info for result in right[1:] for info in result[3] if "terminal_observation" in info]
    assert {info["TimeLimit.truncated"] for info in ends} == {True, False}


def test_ppo_learns_in_it(mortal):
    env = VecMonitor(adapted(mortal, worlds=4, max_episode_steps=LIMIT))
    agent = PPO("CnnPolicy", env, n_steps=16, batch_size=32, n_epochs=1, seed=0, device="cpu")
    before = {name: weight.clone() for name, weight in agent.policy.state_dict().items()}
    agent.learn(256)
    after = agent.policy.state_dict()
    assert agent.num_timesteps == 256 and len(agent.ep_info_buffer) >= 256 // LIMIT // 2
    assert all(weight.isfinite().all() for weight in after.values())
    assert not any(torch.equal(before[name], after[name]) for name in ("action_net.weight", "value_net.weight"))
    action, _ = agent.predict(env.reset())
    assert action.shape == (4,)


def test_the_packages_wrappers_take_it(model):
    env = VecFrameStack(VecTransposeImage(adapted(model)), 4)
    assert env.reset().shape == (WORLDS, 12, HEIGHT, WIDTH)
    assert env.step(np.zeros(WORLDS, int))[0].dtype == np.uint8


def test_it_takes_what_make_vec_returns_and_says_what_else_is_wrong(folder, model):
    made = gym.make_vec("worldsim/Boxing-v0", num_envs=2, world=folder, autoreset_mode="SameStep")
    assert WorldVecEnv(made).reset().shape == (2, HEIGHT, WIDTH, 3)
    for other in (WorldVectorEnv(2, model), gym.make_vec("CartPole-v1", num_envs=2)):
        with pytest.raises(ValueError, match="autoreset_mode=.SameStep."):
            WorldVecEnv(other)


def test_one_world_where_a_batch_is_wanted_is_told_so(folder):
    with pytest.raises(ValueError, match="needs worlds that begin anew within the same step; give gymnasium.make_vec"):
        WorldVecEnv(gym.make("worldsim/Boxing-v0", world=folder))


def test_a_wrapper_that_would_be_lost_is_refused(folder):
    made = gym.make_vec("worldsim/Boxing-v0", num_envs=2, world=folder, autoreset_mode="SameStep")
    with pytest.raises(ValueError, match="TransformReward around the worlds would be left out"):
        WorldVecEnv(gym.wrappers.vector.TransformReward(made, lambda reward: 0 * reward))


def test_seeds_and_options_hold_for_one_reset(model):
    env = adapted(model)
    assert list(env.seed(7)) == [7, 8, 9]
    first = env.reset()
    later = env.reset()
    env.seed(7)
    assert np.array_equal(env.reset(), first) and not np.array_equal(later, first)
    env.set_options({"start": 2})
    assert np.array_equal(env.reset()[1], model.starts.frames[2, -1])
    assert [info["start"] for info in env.reset_infos] == [2] * WORLDS
    env.set_options([{"start": 0}, {"start": 1}, {}])
    with pytest.raises(ValueError, match="same options"):
        env.reset()
    env.reset()
    past = {"frames": model.starts.frames[2], "actions": model.starts.actions[2]}
    env.set_options([{name: value.copy() for name, value in past.items()} for _ in range(WORLDS)])
    assert np.array_equal(env.reset()[1], model.starts.frames[2, -1])


def test_a_world_is_saved_and_put_back_by_its_methods(model):
    env = adapted(model)
    env.seed(5)
    env.reset()
    (state,) = env.env_method("save_state", indices=1)
    right = env.step([1, 2, 3])[0]
    env.step([4, 5, 6])
    env.env_method("load_state", state, indices=[1])
    assert np.array_equal(env.step([7, 2, 9])[0][1], right[1])
    assert len(env.env_method("save_state")) == WORLDS


def test_attributes_are_the_batchs_own_and_not_to_be_set(model):
    env = adapted(model, render_mode="rgb_array")
    env.reset()
    assert env.get_attr("num_envs", [0, 2]) == [WORLDS] * 2 and env.env_is_wrapped(gym.Wrapper) == [False] * WORLDS
    assert env.render().shape[-1] == 3 and not env.has_attr("speed")
    with pytest.raises(AttributeError, match="share 'speed'"):
        env.set_attr("speed", 3)


def test_a_fault_ends_an_episode_as_its_limit_would(model):
    env = adapted(model, ood_every=1)
    env.reset()
    env.worlds._crowd.state.cache.previous[1] = torch.nan
    last = env.worlds._crowd.frames()[1].permute(1, 2, 0).numpy()
    observations, rewards, dones, infos = env.step([1, 2, 3])
    assert dones.tolist() == [False, True, False] and rewards[1] == 0
    assert "not finite" in infos[1]["fault"] and infos[1]["TimeLimit.truncated"]
    assert np.array_equal(infos[1]["terminal_observation"], last)
    assert "ood" in infos[0] and "ood" not in infos[1] and "fault" not in infos[0]
