"""Save states: what is loaded goes on as what was saved, bit for bit, and nothing else can be loaded."""

import copy
import json
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import save_tiny_world

from worldsim.world_model import WorldModel
from worldsim.world_state import HEADER, WorldState
from worldsim_envs.env import WorldEnv
from worldsim_envs.save_state import SaveState
from worldsim_envs.vector import WorldVectorEnv

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """Another world of the same form."""
    return WorldModel.from_pretrained(save_tiny_world(tmp_path_factory.mktemp("stranger"), seed=1))


def play(env, actions):
    """Everything the steps return, comparable; a new episode begins where one ends."""
    results = []
    for action in actions:
        observation, *rest = env.step(int(action))
        results.append((observation.tobytes(), *rest))
        if rest[1] or rest[2]:
            observation, info = env.reset()
            results.append((observation.tobytes(), info))
    return results


def count_identical(model, folder, rounds, seed=0):
    """How many of `rounds` random continuations are bit-identical, in memory, from a file and in forks alike."""
    rng = np.random.default_rng(seed)
    env, other = WorldEnv(model, max_episode_steps=5), WorldEnv(model, max_episode_steps=5)
    env.reset(seed=seed)
    other.reset(seed=seed + 1)
    identical = 0
    for number in range(rounds):
        play(env, rng.integers(0, 18, int(rng.integers(0, 4))))
        saved, actions = env.save_state(), rng.integers(0, 18, 3)
        right = play(env, actions)
        way = number % 4
        if way == 0:
            env.load_state(saved)
            continued = env
        elif way == 1:
            other.load_state(saved)
            continued = other
        elif way == 2:
            saved.save(folder / "state.safetensors")
            other.load_state(folder / "state.safetensors")
            continued = other
        else:
            env.load_state(saved)
            continued = env.fork(2)[1]
        identical += play(continued, actions) == right
    return identical


def test_every_way_back_to_a_state_goes_on_bit_for_bit(model, tmp_path):
    assert count_identical(model, tmp_path, 20) == 20


@pytest.mark.slow
def test_a_thousand_of_a_thousand_continuations_are_identical(model, tmp_path):
    assert count_identical(model, tmp_path, 1000) == 1000


def test_a_state_from_disk_is_the_state_that_was_saved(model, tmp_path):
    env = WorldEnv(model)
    env.reset(seed=5, options={"steps": 4})
    play(env, (1, 2))
    saved = env.save_state()
    saved.save(tmp_path / "deep" / "state.safetensors")
    loaded = SaveState.load(tmp_path / "deep" / "state.safetensors")
    assert replace(loaded, world=saved.world) == saved
    for name, tensor in saved.world.cache.remembered().items():
        assert torch.equal(loaded.world.cache.tensors()[name], tensor) and tensor.any()
    assert (loaded.step, loaded.steps, loaded.checkpoint) == (2, 4, model.fingerprint)


def test_a_state_that_cannot_be_written_is_an_error_of_the_system_in_one_line(model, tmp_path):
    env = WorldEnv(model)
    env.reset(seed=5)
    with pytest.raises(OSError, match="state file '.*' cannot be written") as error:
        env.save_state().save(tmp_path)
    assert "\n" not in str(error.value)


def test_forks_go_separate_ways_and_leave_their_origin_alone(model):
    env, undisturbed = WorldEnv(model), WorldEnv(model)
    for each in (env, undisturbed):
        each.reset(seed=5)
        play(each, (1, 2))
    forks = env.fork(3)
    ways = [play(fork, (action, 0, 0)) for fork, action in zip(forks, (2, 5, 2), strict=True)]
    assert ways[0] == ways[2] != ways[1]
    assert play(env, (7, 7)) == play(undisturbed, (7, 7))
    assert all(fork.model is env.model for fork in forks)
    for wrong in (-1, 1.5, True):
        with pytest.raises(ValueError, match=f"cannot fork {wrong} environments"):
            env.fork(wrong)


def test_a_deep_copy_of_an_environment_and_its_wrappers_is_a_fork(model):
    env = gym.wrappers.TimeLimit(WorldEnv(model, render_mode="rgb_array"), 5)
    fresh = copy.deepcopy(env)
    env.reset(seed=5)
    fresh.reset(seed=5)
    assert play(env, (1, 2)) == play(fresh, (1, 2))
    other = copy.deepcopy(env)
    assert other.unwrapped.model is model and other.unwrapped is not env.unwrapped
    ours, theirs = ([each.step(action) for action in (3, 0, 4)] for each in (env, other))
    assert all(np.array_equal(a[0], b[0]) and a[1:] == b[1:] for a, b in zip(ours, theirs, strict=True))
    assert theirs[-1][3] and np.array_equal(other.render(), env.render())


def test_a_batch_and_a_single_environment_load_each_others_states(model):
    env, batch = WorldEnv(model), WorldVectorEnv(3, model, exact=True)
    env.reset(seed=5)
    play(env, (1, 2))
    batch.reset(seed=9)
    quiet = WorldVectorEnv(3, model, exact=True)
    quiet.reset(seed=9)
    batch.load_state(env.save_state(), [0, 2])
    right = [step[0] for step in play(env, (3, 4))]
    for action, frame in zip((3, 4), right, strict=True):
        observations, *_, infos = batch.step(np.full(3, action))
        assert observations[0].tobytes() == observations[2].tobytes() == frame
        assert np.array_equal(observations[1], quiet.step(np.full(3, action))[0][1])
    assert infos["step"].tolist() == [4, 2, 4]
    env.load_state(batch.save_state(1))
    assert np.array_equal(env.step(5)[0], batch.step(np.full(3, 5))[0][1])


def test_rewinding_takes_frames_back_and_they_come_again(model):
    env = WorldEnv(model, history=4)
    first, _ = env.reset(seed=5)
    frames = play(env, (1, 2, 3))
    observation, info = env.rewind(2)
    assert observation.tobytes() == frames[0][0] and info["step"] == 1
    assert play(env, (2, 3)) == frames[1:]
    observation, _ = env.rewind(3)
    assert np.array_equal(observation, first)
    play(env, range(8))
    for wrong in (5, 0, -1, True, "one"):
        with pytest.raises(ValueError, match=r"1\.\.4"):
            env.rewind(wrong)
    env.reset()
    with pytest.raises(ValueError, match="nothing"):
        env.rewind(1)
    with pytest.raises(ValueError, match="history=-1"):
        WorldEnv(model, history=-1)


def test_an_ended_episode_is_still_over_when_it_is_loaded(model):
    env = WorldEnv(model, max_episode_steps=2, history=2)
    env.reset(seed=5)
    env.step(0)
    assert env.step(0)[3]
    env.load_state(env.save_state())
    with pytest.raises(ResetNeeded, match="over"):
        env.step(0)


def test_there_must_be_something_to_save(model):
    env = WorldEnv(model)
    with pytest.raises(ResetNeeded, match="reset"):
        env.save_state()
    env.reset(seed=5)
    env.paint(0)
    with pytest.raises(ResetNeeded, match="commit"):
        env.save_state()


def altered(path, *, header=None, tensors=None):
    """A state file with parts of its header and its tensors replaced."""
    with safe_open(path, "pt") as file:
        stored = json.loads(file.metadata()[HEADER])
    changed = load_file(path) | (tensors or {})
    out = path.with_name("altered.safetensors")
    save_file(changed, out, metadata={HEADER: json.dumps(stored | (header or {}))})
    return out


BAD_FILES = {
    "missing": (lambda path: path.with_name("none"), FileNotFoundError, "no state file"),
    "text": (lambda path: path.with_suffix(".txt"), ValueError, "is no state file"),
    "cut off": (lambda path: path.with_suffix(".cut"), ValueError, "is no state file"),
    "weights": (lambda path: path.with_suffix(".weights"), ValueError, "is no state file"),
    "old schema": (lambda path: altered(path, header={"schema": 0}), ValueError, "schema 0"),
    "other weights": (lambda path: altered(path, header={"checkpoint": "f" * 64}), ValueError, "checkpoint ffff"),
    "no facts": (lambda path: altered(path, header={"facts": {}}), ValueError, "save the state again"),
    "odd facts": (lambda path: altered(path, header={"facts": {"lives": 3}}), ValueError, "save the state again"),
    "another size": (
        lambda path: altered(path, tensors={"past": torch.zeros(1, 1, 3, 8, 8, dtype=torch.uint8)}),
        ValueError,
        "past is (1, 1, 3, 8, 8)",
    ),
    "another precision": (
        lambda path: altered(path, tensors={"cache.previous": torch.zeros(1, 3, 48, 64)}),
        ValueError,
        "float32",
    ),
    "no noise": (lambda path: altered(path, tensors={"noise.used": torch.zeros(1, 3)}), ValueError, "damaged"),
}


@pytest.mark.parametrize("make, kind, words", BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_a_one_line_error_and_the_episode_goes_on(model, tmp_path, make, kind, words):
    env, batch, path = WorldEnv(model), WorldVectorEnv(2, model), tmp_path / "state.safetensors"
    env.reset(seed=5)
    env.save_state().save(path)
    path.with_suffix(".txt").write_text("hello")
    path.with_suffix(".cut").write_bytes(path.read_bytes()[:-100])
    save_file({"weight": torch.zeros(2)}, path.with_suffix(".weights"))
    undisturbed = play(env, (1, 2))
    env.reset(seed=5)
    batch.reset(seed=5)
    begun = play(env, (1,))
    for refuse in (env, batch):
        with pytest.raises(kind) as error:
            refuse.load_state(make(path))
        assert words in str(error.value) and "\n" not in str(error.value)
    assert begun + play(env, (2,)) == undisturbed


def test_a_strangers_state_is_refused(model, stranger):
    env = WorldEnv(stranger)
    env.reset(seed=5)
    with pytest.raises(ValueError, match=f"checkpoint {stranger.fingerprint[:12]}.*{model.fingerprint[:12]}"):
        WorldEnv(model).load_state(env.save_state())
    with pytest.raises(TypeError, match="save_state"):
        WorldEnv(model).load_state({"frame": 0})


def test_worlds_taken_from_a_batch_and_put_back_are_the_same_batch(model):
    batch = WorldVectorEnv(3, model)
    batch.reset(seed=5)
    states = [batch.save_state(world).world for world in range(3)]
    joined = WorldState.join(states)
    turned = joined.select([2, 0, 1])
    turned.put([0, 1, 2], joined)
    for state in (joined, turned):
        assert state.noise.seeds.tolist() == [each.noise.seeds.item() for each in states]
        assert state.noise.used.tolist() == [each.noise.used.item() for each in states]
        for name, tensor in state.cache.tensors().items():
            assert torch.equal(tensor, torch.cat([each.cache.tensors()[name] for each in states]))
