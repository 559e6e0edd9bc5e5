"""Agents by name and file, as the record command takes them."""

import numpy as np
import pytest
import tiny

from worldsim.cli import main
from worldsim_envs import record
from worldsim_envs.env import WorldEnv

pytest.importorskip("av")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return str(tiny.save_tiny_world(tmp_path_factory.mktemp("world")))


@pytest.fixture
def env(world):
    return WorldEnv(world)


def rng(seed=0):
    return np.random.default_rng(seed)


def actions_of(agent, count=60):
    return [agent(np.zeros((48, 64, 3), np.uint8)) for _ in range(count)]


def test_the_random_agent_holds_its_actions_and_follows_its_seed(env):
    actions = actions_of(record.load_agent("random", env, rng()))
    assert actions == actions_of(record.load_agent("random", env, rng()))
    assert actions != actions_of(record.load_agent("random", env, rng(1)))
    assert 60 / 8 <= 1 + np.count_nonzero(np.diff(actions)) <= 40
    assert all(action in env.action_space for action in actions)


def test_the_noop_agent_rests(env):
    assert actions_of(record.load_agent("noop", env, rng()), 3) == [0, 0, 0]


def test_a_json_agent_repeats_its_list(env, tmp_path):
    (tmp_path / "a.json").write_text("[2, 5, 17]")
    agent = record.load_agent(str(tmp_path / "a.json"), env, rng())
    assert actions_of(agent, 7) == [2, 5, 17, 2, 5, 17, 2]


def test_a_python_agent_sees_the_frame_and_has_its_own_randomness(env, tmp_path):
    (tmp_path / "a.py").write_text(
        "def act(observation, rng):\n    return int(observation[0, 0, 0]) + rng.integers(3)\n"
    )
    agent = record.load_agent(str(tmp_path / "a.py"), env, rng())
    expected = rng()
    frame = np.full((48, 64, 3), 9, np.uint8)
    assert [agent(frame) for _ in range(9)] == [9 + expected.integers(3) for _ in range(9)]


BAD_AGENTS = {
    "greedy": (None, "use random, noop, a .json list of actions, a .py file"),
    "missing.json": (None, "does not exist"),
    "broken.json": ("[1, 2", "is not JSON"),
    "empty.json": ("[]", "holds no actions"),
    "object.json": ('{"actions": [1]}', "holds no actions"),
    "unknown.json": ("[1, 18]", "use 0..17"),
    "nested.json": ("[[1], [2]]", "is not one action"),
    "words.json": ('["UP"]', "integers 0..17"),
    "silent.py": ("x = 1\n", "defines no act(observation, rng)"),
}


@pytest.mark.parametrize("name", BAD_AGENTS)
def test_a_bad_agent_is_a_one_line_error_and_nothing_is_written(world, tmp_path, monkeypatch, capsys, name):
    text, words = BAD_AGENTS[name]
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / name).write_text(text)
    before = sorted(tmp_path.iterdir())
    assert main(["record", world, "--agent", name, "--out", "clips/clip.mp4"]) == 2
    said = capsys.readouterr().err
    assert words in said and len(said.splitlines()) == 1
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "__pycache__"] == before


def test_an_agent_that_remembers_forgets_before_each_new_scene(world, tmp_path):
    (tmp_path / "a.py").write_text(
        "seen = 0\n\ndef act(observation, rng):\n    global seen\n    seen += 1\n    return seen\n\n"
        "def reset():\n    global seen\n    seen = 0\n"
    )
    env = WorldEnv(world, max_episode_steps=4)
    scenes = record.film(env, None, record.load_agent(str(tmp_path / "a.py"), env, rng()), 10, rng())
    assert [scene.actions for scene in scenes] == [[1, 2, 3, 4], [1, 2, 3, 4], [1, 2]]
