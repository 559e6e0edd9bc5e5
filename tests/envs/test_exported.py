"""An exported world as an environment, against the same world in torch."""

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from tiny import tiny_encounter, tiny_world

pytest.importorskip("onnxruntime", reason='needs onnxruntime: pip install "worldsim[export]"')
pytest.importorskip("onnx", reason='needs onnx: pip install "worldsim[export]"')

import worldsim  # noqa: F401 - registers the ids
from worldsim.export import export_world
from worldsim.exported.world import OnnxWorld
from worldsim_envs.env import WorldEnv
from worldsim_envs.exported import ExportedEnv
from worldsim_envs.faults import NOT_FINITE

pytestmark = pytest.mark.usefixtures("one_thread")

ACTIONS = [2, 0, 1, 17]
SMALL = {"depth": 2, "dim": 16}


def endless(model):
    """The world whose heads never tell of an end."""
    with torch.no_grad():
        model.heads.net[-1].bias[-1] = -1e3
    return model


@pytest.fixture(scope="module")
def model():
    return endless(tiny_world(**SMALL))


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "tiny"
    export_world(model, out)
    return out


@pytest.fixture
def env(folder):
    return ExportedEnv(folder, threads=1)


def test_it_keeps_gymnasiums_contract(folder):
    env = gym.make("worldsim/Exported-v0", world=folder, threads=1, render_mode="rgb_array")
    check_env(env.unwrapped, skip_render_check=True)
    env.reset(seed=0)
    frame = env.step(2)[0]
    assert np.array_equal(env.render(), frame) and env.unwrapped.metadata["render_fps"] == 15


@pytest.mark.parametrize("options", [None, {"start": 2, "steps": 1}])
def test_a_seed_begins_as_in_torch_and_the_first_frames_differ_by_rounding(env, model, options):
    right = WorldEnv(model)
    (seen, told), (wanted, info) = (each.reset(seed=5, options=options) for each in (env, right))
    assert np.array_equal(seen, wanted) and told == info
    for action in ACTIONS[:2]:
        seen, wanted = env.step(action), right.step(action)
        assert np.abs(seen[0].astype(int) - wanted[0]).max() <= 2
        assert seen[1:] == wanted[1:]
    assert env.reset()[1] == right.reset()[1]


def test_an_episode_ends_at_the_limit_and_then_waits_for_a_reset(folder):
    env = ExportedEnv(folder, threads=1, max_episode_steps=2)
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(0)
    env.reset(seed=0)
    assert [env.step(0)[3] for _ in range(2)] == [False, True]
    with pytest.raises(ResetNeeded, match="the episode is over"):
        env.step(0)


def test_a_fault_truncates_with_reward_zero_and_the_last_sound_frame(env):
    before, _ = env.reset(seed=0)
    values = env._state.memory["values.0"]
    env._state.memory["values.0"] = np.full_like(values, np.nan)
    frame, reward, terminated, truncated, info = env.step(2)
    assert np.array_equal(frame, before) and (reward, terminated, truncated) == (0.0, False, True)
    assert info["fault"] == NOT_FINITE


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda env: env.reset(seed=7, options={"start": 3}), r"start=3; this world has start states 0\.\.2"),
        (lambda env: env.reset(options={"start": "x"}), r"start='x'; this world has start states 0\.\.2"),
        (lambda env: env.reset(options={"steps": 3}), "steps=3; this world paints in 1, 2, 4 denoising steps"),
        (lambda env: env.reset(options={"steps": [2]}), r"steps=\[2\]; this world paints in 1, 2, 4 denoising steps"),
        (lambda env: env.reset(options={"past": 1}), "unknown reset option 'past'; use start, steps, conditions"),
        (lambda env: env.reset(options={1: 2, "past": 1}), "unknown reset option 1; use start, steps, conditions"),
        (lambda env: env.reset(options=["start"]), "reset options are of type list; give a dict of start, steps"),
        (lambda env: env.step(18), "18"),
        (lambda env: env.step([1, 2]), r"action has shape \(2,\); give one action of Discrete\(18\)"),
        (lambda env: ExportedEnv(env.world, render_mode="human"), "unknown render_mode 'human'"),
        (
            lambda env: ExportedEnv(env.world, max_episode_steps=0),
            "max_episode_steps=0; give a number of frames from 1",
        ),
        (lambda env: ExportedEnv(env.world, max_episode_steps="x"), "max_episode_steps='x'; give a number of frames"),
        (
            lambda env: env.world.step(env._state, env._state.held, steps=[2]),
            r"steps=\[2\]; this world paints in 1, 2, 4",
        ),
        (lambda env: OnnxWorld("nowhere", threads=0), "threads=0; give a number from 1"),
        (lambda env: OnnxWorld("nowhere", threads="2"), "threads='2'; give a number from 1"),
        (lambda env: ExportedEnv(env.world, steps=5), "steps=5; this world paints in 1, 2, 4 denoising steps"),
    ],
)
def test_bad_words_get_one_line_and_leave_the_episode_as_it_was(env, work, message):
    env.reset(seed=0)
    first = env.step(2)[0]
    state = env._state.clone()
    generator = env.np_random.bit_generator.state
    with pytest.raises(ValueError, match=message):
        work(env)
    assert env.np_random.bit_generator.state == generator
    assert env._state.step_count == state.step_count and np.array_equal(env._state.last, first)
    assert env._state.noise == state.noise


def test_it_plays_without_torch(folder):
    code = f"""
import sys, gymnasium as gym, worldsim
env = gym.make("worldsim/Exported-v0", world={str(folder)!r}, threads=1)
env.reset(seed=0); env.step(2); print("torch" in sys.modules or "diffusers" in sys.modules)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == ["False"]


def test_a_player_alone_meets_whom_the_seed_draws_as_in_torch(tmp_path):
    model = endless(tiny_encounter(**SMALL))
    export_world(model, tmp_path / "out")
    env, right = ExportedEnv(tmp_path / "out", threads=1, fixed={"npc": None}), WorldEnv(model, fixed={"npc": None})
    assert env.action_space == right.action_space and env.actions == right.actions
    for seed in (3, None, None):
        assert env.reset(seed=seed)[1] == right.reset(seed=seed)[1]
        assert env.conditions == right.conditions
        frames = [each.step(each.actions.vector(wave=1))[0].astype(int) for each in (env, right)]
        assert np.abs(frames[0] - frames[1]).max() <= 2 and env.conditions == right.conditions
    env.reset(options={"conditions": {"npc": "proud"}})
    assert env.conditions == {"npc": "proud"}


def test_a_condition_holds_until_another_is_named_as_in_torch(tmp_path):
    model = endless(tiny_encounter(**SMALL))
    export_world(model, tmp_path / "out")
    world = OnnxWorld(tmp_path / "out", threads=1)
    env, right = ExportedEnv(world), WorldEnv(model)
    options = {"start": 0, "conditions": {"npc": "timid"}}
    for each in (env, right):
        each.reset(seed=0, options=options)
    rest = env.actions.vector()
    for action, wanted in ((rest, "timid"), (env.actions.vector(npc_hostile=1), "hostile"), (rest, "hostile")):
        frames = [each.step(action)[0].astype(int) for each in (env, right)]
        assert env.conditions == right.conditions == {"npc": wanted}
        assert np.abs(frames[0] - frames[1]).max() <= 2
    env.conditions = {"npc": "proud"}
    saved = env._state.clone()
    env.step(rest)
    assert env.conditions == world.conditions(saved) == {"npc": "proud"}
    with pytest.raises(ValueError, match="npc"):
        env.conditions = {"npc": "cross"}
    for each in (env, right):
        each.reset(seed=0, options={"start": 1})
    assert env.conditions == right.conditions
