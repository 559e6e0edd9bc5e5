"""Agents of Stable-Baselines3, read from their files without a pickle."""

import json
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import torch

sb3 = pytest.importorskip("stable_baselines3")

from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack  # noqa: E402

from worldsim.action import ActionSpec, Channel  # noqa: E402
from worldsim_envs.agents import load_agent  # noqa: E402

RNG = np.random.default_rng(0)


class Noise(gym.Env):
    observation_space = gym.spaces.Box(0, 255, (48, 64, 3), np.uint8)
    actions = ActionSpec([Channel("up")], [[row % 2] for row in range(18)])
    action_space = actions.space()

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}


@pytest.fixture(scope="module", params=[1, 3])
def trained(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("agent") / "agent.zip"
    model = sb3.PPO("CnnPolicy", VecFrameStack(DummyVecEnv([Noise]), request.param), n_steps=8, batch_size=8, seed=3)
    with torch.no_grad():
        model.policy.action_net.weight.mul_(100)  # fresh weights choose the same action whatever they see
    model.save(path)
    return model, path, request.param


def poisoned(path, out):
    """The same file with every pickle in it replaced by bytes that no pickle begins with."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "data":
                told = json.loads(data)
                for value in told.values():
                    if isinstance(value, dict) and ":serialized:" in value:
                        value[":serialized:"] = "bm8gcGlja2xl"
                data = json.dumps(told)
            new.writestr(name, data)
    return str(out)


def test_an_agent_acts_as_its_model_does_on_the_frames_it_was_trained_on(trained, tmp_path):
    model, path, stacked = trained
    agent = load_agent(poisoned(path, tmp_path / "agent.zip"), Noise(), RNG)
    brightness = np.linspace(0.0, 1.0, 12)[:, None, None, None]
    blocks = RNG.integers(0, 256, (12, 6, 8, 3)).repeat(8, axis=1).repeat(8, axis=2)
    frames = (blocks * brightness).astype(np.uint8)
    padded = np.concatenate([np.zeros((stacked - 1, 48, 64, 3), np.uint8), frames])
    seen = [np.concatenate(list(padded[i : i + stacked]), axis=2) for i in range(12)]
    wanted = [int(model.predict(each, deterministic=True)[0]) for each in seen]
    assert [int(agent(frame)) for frame in frames] == wanted and len(set(wanted)) > 1
    agent.reset()
    assert [int(agent(frame)) for frame in frames] == wanted


class Small(Noise):
    actions = ActionSpec([Channel("up")], [[0], [1], [0], [1]])


def test_what_cannot_be_read_is_one_line(trained, tmp_path):
    _, path, _ = trained
    with pytest.raises(ValueError, match=r"other frames or actions; here are 48x64 and Discrete\(4\)"):
        load_agent(str(path), Small(), RNG)
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(ValueError, match="no agent that Stable-Baselines3 saved"):
        load_agent(str(tmp_path / "text.zip"), Noise(), RNG)
    sb3.DQN("CnnPolicy", Noise(), buffer_size=4).save(tmp_path / "dqn.zip")
    with pytest.raises(ValueError, match="PPO's or A2C's CnnPolicy"):
        load_agent(str(tmp_path / "dqn.zip"), Noise(), RNG)


class Led(Noise):
    """Actions with a condition, in which the agents here had no say."""

    actions = ActionSpec(
        [Channel("up"), Channel("npc_calm"), Channel("npc_wild")], conditions={"npc": ("calm", "wild")}
    )


class Alone(Noise):
    action_space = Led.actions.without(["npc"]).space()


def test_an_agent_that_had_no_say_in_the_conditions_leaves_them_at_rest(tmp_path):
    model = sb3.PPO("CnnPolicy", Alone(), n_steps=8, batch_size=8, seed=3)
    with torch.no_grad():
        model.policy.action_net.bias.fill_(0.9)
    model.save(tmp_path / "alone.zip")
    agent = load_agent(str(tmp_path / "alone.zip"), Led(), RNG)
    assert agent(np.zeros((48, 64, 3), np.uint8)).tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match="other frames or actions"):
        load_agent(str(tmp_path / "alone.zip"), Noise(), RNG)
