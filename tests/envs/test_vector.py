"""WorldVectorEnv against gymnasium's own vector environment over single worlds, and against its promises."""

import os
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from test_lag import looking_back
from tiny import HEIGHT, WIDTH, Mortal, mortal_world, tiny_world

import worldsim  # noqa: F401 - registers the ids
from worldsim.world_model import WorldModel
from worldsim_envs.env import WorldEnv
from worldsim_envs.vector import WorldVectorEnv

pytestmark = pytest.mark.usefixtures("one_thread")

WORLDS, LIMIT = 3, 4
MODES = [mode.value for mode in AutoresetMode]
DISABLED, SAME_STEP = AutoresetMode.DISABLED, AutoresetMode.SAME_STEP


@pytest.fixture(scope="module")
def mortal(model):
    return mortal_world(model, every=3)


def drive(vector, steps=12, seed=0):
    """Every result of a fixed run, with resets by mask where the mode asks for them."""
    rng = np.random.default_rng(seed)
    results = [vector.reset(seed=5)]
    for _ in range(steps):
        actions = rng.integers(0, 18, vector.num_envs)
        results.append(vector.step(actions))
        over = results[-1][2] | results[-1][3]
        if vector.metadata["autoreset_mode"] is DISABLED and over.any():
            results.append(vector.reset(options={"reset_mask": over}))
    return results


def flat(value):
    """Comparable: arrays as type, shape and content."""
    if isinstance(value, dict):
        return {key: flat(each) for key, each in sorted(value.items())}
    if isinstance(value, tuple | list):
        return [flat(each) for each in value]
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.dtype.kind, value.shape, value.tobytes() if value.dtype == np.uint8 else value.tolist()
    return [flat(each) for each in value] if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("mode", MODES)
def test_exact_worlds_are_gymnasiums_vector_of_single_ones_in_every_autoreset_mode(mortal, mode):
    reference = SyncVectorEnv(
        [lambda: WorldEnv(mortal, max_episode_steps=LIMIT)] * WORLDS, autoreset_mode=AutoresetMode(mode)
    )
    ours = WorldVectorEnv(WORLDS, mortal, max_episode_steps=LIMIT, autoreset_mode=mode, exact=True)
    right, seen = drive(reference), drive(ours)
    assert any(result[2].any() for result in right if len(result) == 5)
    assert any(result[3].any() for result in right if len(result) == 5)
    assert flat(seen) == flat(right)


class Nostalgic(Mortal):
    """`Mortal` heads whose reward is the brightness of the earliest frame that they are shown."""

    def read(self, before, after):
        return before[:, :3].mean(dim=(1, 2, 3)), super().read(before, after)[1]


@pytest.mark.parametrize("mode", [DISABLED, SAME_STEP])
def test_exact_worlds_that_look_back_are_single_ones_when_some_begin_anew(mode):
    world = looking_back(tiny_world(depth=2, dim=16))
    world.reader = Nostalgic(every=3)
    reference = SyncVectorEnv([lambda: WorldEnv(world, max_episode_steps=LIMIT + 2)] * WORLDS, autoreset_mode=mode)
    ours = WorldVectorEnv(WORLDS, world, max_episode_steps=LIMIT + 2, autoreset_mode=mode, exact=True)
    right, seen = drive(reference), drive(ours)
    assert any(0 < (result[2] | result[3]).sum() < WORLDS for result in right if len(result) == 5)
    assert flat(seen) == flat(right)


@pytest.mark.parametrize("exact", [False, True])
def test_a_world_is_the_same_bytes_in_any_place_whatever_the_others_do(mortal, exact):
    runs = {}
    for order in ((0, 1, 2), (2, 0, 1), (1, 0, 0)):
        vector = WorldVectorEnv(WORLDS, mortal, max_episode_steps=LIMIT, exact=exact)
        observations, _ = vector.reset(seed=[50 + world for world in order])
        for place, world in enumerate(order):
            runs.setdefault((world, order, place), []).append(observations[place].tobytes())
        for step in range(8):
            observations, *rest, _ = vector.step(np.array([(7 * world + step) % 18 for world in order]))
            for place, world in enumerate(order):
                result = observations[place].tobytes(), *(float(each[place]) for each in rest)
                runs[world, order, place].append(result)
    for world in range(WORLDS):
        same = [run for (each, *_), run in runs.items() if each == world]
        assert len(same) >= 2 and all(run == same[0] for run in same)


def test_exact_frames_are_the_same_bytes_at_any_number_of_worlds(model):
    def frames(worlds):
        vector = WorldVectorEnv(worlds, model, exact=True)
        vector.reset(seed=5)
        return np.stack([vector.step(np.full(worlds, 3))[0][0] for _ in range(5)])

    one = frames(1)
    assert np.array_equal(one, frames(2)) and np.array_equal(one, frames(5))


@pytest.mark.parametrize("threads", [1, 2])
def test_without_exact_a_frame_of_the_same_memory_is_the_same_but_for_rounding(model, threads):
    torch.set_num_threads(threads)
    single, vector = WorldEnv(model), WorldVectorEnv(5, model)
    single.reset(seed=5)
    vector.reset(seed=[5, 1, 2, 3, 4])
    for action in range(10):
        vector.load_state(single.save_state(), [0])
        one, *_ = single.step(action)
        many, *_ = vector.step(np.full(5, action))
        difference = np.abs(one.astype(int) - many[0])
        assert difference.max() <= 16 and difference.mean() <= 0.5


def test_it_is_made_by_its_id_in_every_mode(folder):
    for mode in AutoresetMode:
        vector = gym.make_vec("worldsim/Boxing-v0", num_envs=2, world=folder, autoreset_mode=mode)
        assert isinstance(vector.unwrapped, WorldVectorEnv) and vector.metadata["autoreset_mode"] is mode
        assert vector.rules.limit == 1800
        assert vector.single_observation_space == gym.spaces.Box(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        observations, infos = vector.reset(seed=1)
        assert observations in vector.observation_space and vector.action_space.shape == (2,)
        assert set(infos) == {"step", "_step", "steps", "_steps", "start", "_start"}
    limited = gym.make_vec("worldsim/Boxing-v0", num_envs=2, world=folder, max_episode_steps=3)
    assert limited.rules.limit == 3
    lifted = gym.make_vec("worldsim/Boxing-v0", num_envs=2, world=folder, max_episode_steps=-1)
    assert lifted.rules.limit is None
    assert gym.make_vec("worldsim/World-v0", num_envs=2, world=folder).rules.limit == 500


@pytest.mark.parametrize("exact", [False, True])
def test_resetting_one_world_never_touches_the_others(model, exact):
    quiet = WorldVectorEnv(WORLDS, model, exact=exact, autoreset_mode=DISABLED)
    other = WorldVectorEnv(WORLDS, model, exact=exact, autoreset_mode=DISABLED)
    for vector in (quiet, other):
        vector.reset(seed=5)
    for action in range(6):
        if action in (2, 3):
            options = {"reset_mask": np.array([False, True, False]), "start": 2}
            observations, infos = other.reset(seed=9, options=options)
            assert infos["_start"].tolist() == [False, True, False] and infos["start"][1] == 2
            assert np.array_equal(observations[1], model.starts.frames[2, -1])
        right, seen = (vector.step(np.full(WORLDS, action)) for vector in (quiet, other))
        assert np.array_equal(right[0][[0, 2]], seen[0][[0, 2]])
    assert not np.array_equal(right[0][1], seen[0][1])
    assert seen[-1]["step"].tolist() == [6, 3, 6]


def test_step_tensor_is_step_without_leaving_the_device(model):
    arrays, tensors = (WorldVectorEnv(WORLDS, model, max_episode_steps=2, autoreset_mode=SAME_STEP) for _ in range(2))
    arrays.reset(seed=5)
    frames, _ = tensors.reset_tensor(seed=5)
    for action in range(4):
        right = arrays.step(np.full(WORLDS, action))
        frames, rewards, terminated, truncated, infos = tensors.step_tensor(torch.full((WORLDS,), action))
        assert frames.dtype == torch.uint8 and frames.device == model.device
        assert np.array_equal(frames.permute(0, 2, 3, 1).numpy(), right[0])
        for tensor, array in zip((rewards, terminated, truncated), right[1:4], strict=True):
            assert np.array_equal(tensor.numpy(), array)
        if "final_obs" in infos:
            assert np.array_equal(infos["final_obs"][0].permute(1, 2, 0).numpy(), right[-1]["final_obs"][0])
    assert right[3].all()


def test_channel_actions_are_the_native_ones_spelled_out(model):
    native, channels = WorldVectorEnv(2, model), WorldVectorEnv(2, model, channel_actions=True)
    single = WorldEnv(model, channel_actions=True)
    assert channels.single_action_space == single.action_space == model.actions.channel_space()
    single.reset(seed=5)
    native.reset(seed=5)
    channels.reset(seed=5)
    for action in (3, 14, 0):
        vectors = model.actions.encode(np.array([action, action]))
        right, seen = native.step(np.array([action, action])), channels.step(vectors)
        assert flat(right) == flat(seen)
        single.step(vectors[0])
    with pytest.raises(ValueError, match="buttons are 0 or 1"):
        channels.step(vectors + 2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_tensor_of_channel_actions_may_have_any_floating_point_type(model, dtype):
    vector, actions = WorldVectorEnv(2, model, channel_actions=True), torch.eye(5)[:2]
    runs = []
    for given in (actions, actions.to(dtype).requires_grad_()):
        vector.reset(seed=5)
        runs.append(flat(vector.step(given)))
    assert runs[0] == runs[1]


def test_a_callers_own_past_and_step_count_hold_for_every_world(model):
    past = {"frames": model.starts.frames[1], "actions": model.starts.actions[1], "steps": 4}
    vector = WorldVectorEnv(2, model, exact=True)
    observations, infos = vector.reset(seed=5, options=past)
    assert infos["start"].tolist() == [-1, -1] and np.array_equal(observations[0], past["frames"][-1])
    single = WorldEnv(model)
    single.reset(seed=6, options=past)
    seen = vector.step(np.array([3, 3]))
    assert np.array_equal(seen[0][1], single.step(3)[0]) and seen[-1]["steps"].tolist() == [4, 4]
    vector.reset()
    assert vector.step(np.array([3, 3]))[-1]["steps"].tolist() == [2, 2]


ONE = np.array([True, False, False])
BAD_RESETS = {
    "unknown option": ({"options": {"frame": 0}}, ValueError, "unknown reset option 'frame'"),
    "options in a list": ({"options": ["reset_mask"]}, ValueError, "of type list; give a dict of frames, actions"),
    "mask as a list": ({"options": {"reset_mask": [True, False, False]}}, TypeError, "a list; give a numpy array"),
    "mask of numbers": ({"options": {"reset_mask": np.ones(3)}}, TypeError, "float64; give a numpy array"),
    "short mask": ({"options": {"reset_mask": ONE[:2]}}, ValueError, "mark at least one of 3"),
    "empty mask": ({"options": {"reset_mask": ONE & False}}, ValueError, "mark at least one of 3"),
    "steps for one": ({"options": {"reset_mask": ONE, "steps": 4}}, ValueError, "holds for all worlds"),
    "three steps": ({"options": {"steps": 3}}, ValueError, "1, 2, 4"),
    "too few seeds": ({"seed": [1, 2]}, ValueError, "2 seeds for 3 worlds"),
    "half a seed": ({"seed": 2.5}, gym.error.Error, "seed 2.5 is no whole number"),
    "no seed": ({"seed": "12"}, gym.error.Error, "seed '12' is no whole number"),
    "negative seed": ({"seed": [1, -2, 3]}, gym.error.Error, "seed -2"),
}


@pytest.mark.parametrize("asked, kind, words", BAD_RESETS.values(), ids=BAD_RESETS)
def test_a_bad_reset_is_a_one_line_error_and_no_world_notices(model, asked, kind, words):
    check_unharmed(model, lambda vector: vector.reset(**asked), kind, words)


BAD_ACTIONS = {
    "one action": 3,
    "too many": np.zeros(4, int),
    "floats": np.zeros(3),
    "out of range": np.array([0, 18, 0]),
    "negative": [0, -1, 0],
    "words": ["UP", "UP", "UP"],
    "none": None,
    "vectors": torch.zeros(3, 5),
}


@pytest.mark.parametrize("actions", BAD_ACTIONS.values(), ids=BAD_ACTIONS)
def test_bad_actions_are_a_one_line_error_and_no_world_notices(model, actions):
    check_unharmed(model, lambda vector: vector.step(actions), ValueError, "action")


def check_unharmed(model, work, kind, words):
    vector = WorldVectorEnv(WORLDS, model)
    runs = []
    for disturb in (False, True):
        vector.reset(seed=5)
        run = [flat(vector.step(np.full(WORLDS, 3)))]
        if disturb:
            with pytest.raises(kind) as error:
                work(vector)
            assert words in str(error.value) and "\n" not in str(error.value)
        runs.append(run + [flat(vector.step(np.full(WORLDS, action))) for action in (4, 5)])
    assert runs[0] == runs[1]


def test_worlds_must_begin_before_they_are_played(model):
    vector = WorldVectorEnv(2, model, autoreset_mode=DISABLED, max_episode_steps=1)
    first = {"reset_mask": np.array([True, False])}
    for early in (lambda: vector.step([0, 0]), lambda: vector.save_state(0), lambda: vector.reset(options=first)):
        with pytest.raises(ResetNeeded, match="reset"):
            early()
    vector.reset(seed=5)
    vector.step([0, 0])
    vector.reset(options=first)
    with pytest.raises(ResetNeeded, match="world 1"):
        vector.step([0, 0])


@pytest.mark.parametrize(
    "asked, words",
    [
        ({"num_envs": 0}, "from 1"),
        ({"autoreset_mode": "sometimes"}, "'NextStep', 'SameStep', 'Disabled'"),
        ({"render_mode": "human"}, "rgb_array"),
        ({"steps": 3}, "1, 2, 4"),
        ({"max_episode_steps": 0}, "from 1, None or -1"),
    ],
)
def test_a_vector_that_cannot_be_is_a_one_line_error(model, asked, words):
    with pytest.raises(ValueError, match=words):
        WorldVectorEnv(**{"num_envs": 1, "world": model} | asked)


def test_memory_stays_flat_over_many_episodes(model):
    """Counted in tensors and generators alive: the memories of start states are bounded by their number."""
    import gc

    vector = WorldVectorEnv(2, model, max_episode_steps=2)
    vector.reset(seed=5)

    def alive(steps):
        for _ in range(steps):
            vector.step(np.array([1, 2]))
        gc.collect()
        return sum(type(each) in (torch.Tensor, torch.Generator) for each in gc.get_objects())

    alive(60)
    assert alive(60) <= alive(1) + 2


def test_what_it_returns_is_the_callers_own(model):
    vector = WorldVectorEnv(2, model, max_episode_steps=2, autoreset_mode=SAME_STEP, render_mode="rgb_array")
    clean = [flat(result) for result in drive(vector, steps=5)]
    scribbled, rng = [], np.random.default_rng(0)
    result = vector.reset(seed=5)
    for _ in range(6):
        scribbled.append(flat(result))
        for array in (*result[:-1], *vector.render(), *result[-1].values()):
            if isinstance(array, np.ndarray) and array.dtype != object:
                array[...] = 0
        result = vector.step(rng.integers(0, 18, 2))
    assert scribbled == clean


def test_render_shows_the_last_observations(model):
    vector = WorldVectorEnv(2, model, render_mode="rgb_array")
    observations, _ = vector.reset(seed=5)
    assert np.array_equal(np.stack(vector.render()), observations)


def test_a_float32_world_plays_too():
    vector = WorldVectorEnv(2, tiny_world(), exact=True)
    vector.reset(seed=5)
    assert vector.step([1, 2])[0].any()


def test_a_batch_says_in_one_line_that_compiling_is_not_for_it(folder):
    with pytest.warns(UserWarning, match="compile=True is for single worlds") as told:
        vector = gym.make_vec("worldsim/World-v0", num_envs=2, world=folder, compile=True)
    assert len(told) == 1 and "\n" not in str(told[0].message)
    assert vector.unwrapped.model.engine == WorldModel.from_pretrained(folder).engine


def test_worlds_painted_one_by_one_are_compiled_like_single_ones(folder, no_compiler):
    with pytest.warns(UserWarning, match="playing without") as told:
        gym.make_vec("worldsim/World-v0", num_envs=2, world=folder, exact=True, compile=True)
    assert len(told) == 1 and "single worlds" not in str(told[0].message)


FORKS = """
import gymnasium as gym, numpy as np, sys, torch, worldsim
torch.set_num_threads(2)
gym.make("worldsim/World-v0", world=sys.argv[1]).reset(seed=0)
envs = gym.make_vec("worldsim/World-v0", num_envs=2, vectorization_mode="async", world=sys.argv[1])
envs.reset(seed=0)
print(envs.step(np.zeros(2, int))[0].shape)
envs.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_gymnasiums_processes_paint_although_their_parent_painted_with_threads(folder):
    command = [sys.executable, "-c", FORKS, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.strip() == str((2, HEIGHT, WIDTH, 3)), done.stderr
