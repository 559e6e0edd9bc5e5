"""The real game as an environment: it plays what its adapter plays, and stops where it says."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.seeding import np_random
from toy_game import ToyGame, advance, read

import worldsim  # noqa: F401 - registers the ids
from worldsim_envs.real import RealEnv
from worldsim_envs.source import SourceEnv


@pytest.fixture
def env():
    return RealEnv(ToyGame, max_episode_steps=3)


def test_the_frames_are_the_games_own_from_an_opening_that_the_seed_decides(env):
    first, _ = env.reset(seed=4)
    assert env.observation_space.contains(first) and env.metadata["render_fps"] == ToyGame.fps
    assert np.array_equal(first, ToyGame().reset(int(np_random(4)[0].integers(2**31))))
    state = read(first)
    frame, reward, terminated, truncated, info = env.step(np.int64(2))
    assert read(frame) == advance(state, (0, 1, 0, 0))
    assert (reward, terminated, truncated, info) == (0.0, False, False, {"step": 1})


def test_an_episode_is_truncated_at_its_limit_and_then_needs_a_reset(env):
    with pytest.raises(ResetNeeded, match="never begun"):
        env.step(0)
    env.reset(seed=0)
    assert [env.step(0)[3] for _ in range(3)] == [False, False, True]
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(0)
    with pytest.raises(ValueError, match="unknown reset option 'start'"):
        env.reset(options={"start": 1})
    with pytest.raises(ValueError, match="max_episode_steps=0; give a number of frames from 1"):
        RealEnv(ToyGame, max_episode_steps=0)


def test_a_saved_state_goes_on_with_the_same_frames_and_the_same_limit(env):
    env.reset(seed=1)
    env.step(1)
    saved, lived = env.save_state(), [env.step(3) for _ in range(2)]
    env.load_state(saved)
    for before, after in zip(lived, [env.step(3) for _ in range(2)], strict=True):
        assert np.array_equal(before[0], after[0]) and before[1:] == after[1:]


def test_a_painted_frame_must_be_committed(env):
    env.reset(seed=1)
    with pytest.raises(ResetNeeded, match="no new frame"):
        env.commit()
    env.paint(1)
    with pytest.raises(ResetNeeded, match="call commit"):
        env.paint(1)


@pytest.mark.parametrize("action", [2.7, 2.0, -1, 5, "a", None, True, [1], np.array([1, 2])])
def test_an_action_that_is_none_of_the_games_is_one_line_and_changes_nothing(env, action):
    env.reset(seed=1)
    before = env.save_state()
    with pytest.raises(ValueError, match="^action ") as refused:
        env.step(action)
    assert "\n" not in str(refused.value)
    env.step(1)
    twin = RealEnv(ToyGame)
    twin.reset(seed=1)
    assert before.step == 0 and np.array_equal(env.step(2)[0], [twin.step(1), twin.step(2)][1][0])


def test_a_source_game_can_be_filmed_as_its_world_can():
    env = gym.make("worldsim/Source-v0", world="encounter", render_mode="rgb_array")
    frame, _ = env.reset(seed=1)
    assert np.array_equal(env.render(), frame)
    frame, *_ = env.step(env.action_space.sample())
    assert np.array_equal(env.render(), frame)
    filmed = gym.make("worldsim/Source-v0", world="encounter", render_mode="rgb_array_list")
    filmed.reset(seed=1)
    filmed.step(filmed.action_space.sample())
    assert len(filmed.render()) == 2
    with pytest.raises(ValueError, match="a real game has None or 'rgb_array'"):
        RealEnv(ToyGame, render_mode="human")
    with pytest.raises(ResetNeeded, match="no frame yet"):
        RealEnv(ToyGame, render_mode="rgb_array").render()


@pytest.mark.atari
@pytest.mark.parametrize("options", [{"start": 3}, {"episode_seed": (1,)}])
def test_a_source_game_says_which_options_begin_at_a_recorded_moment(options):
    env = SourceEnv("boxing")
    with pytest.raises(ValueError, match="give none, or episode_seed, actions, frame of a recorded episode"):
        env.reset(options=options)
    env.close()
