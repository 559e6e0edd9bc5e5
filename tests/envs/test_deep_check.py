"""The deep checker: a sound environment passes, and each defect that gymnasium's own checker lets pass is found."""

import itertools
import random
import time
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from tiny import save_tiny_world

from worldsim.world_model import WorldModel
from worldsim_envs.deep_check import CHECKS, DeepCheckError, check_memory, deep_check_env
from worldsim_envs.env import WorldEnv

STEPS = 120
LATE = 60
"""Frames after which a defect shows, long after a short look is over."""


class Sound(gym.Env):
    """A dot on a ring, pushed by actions and by chance; an episode ends at the time limit."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    limit = 90

    def __init__(self, render_mode="rgb_array"):
        self.render_mode = render_mode
        self.observation_space = gym.spaces.Box(-2.0, 2.0, (4,), np.float32)
        self.action_space = self.make_actions()

    def make_actions(self):
        return gym.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count, self.speed, self.place = 0, 0.0, float(self.np_random.random())
        return self.look(), {"count": 0}

    def step(self, action):
        self.count += 1
        self.speed = 0.9 * self.speed + 0.01 * (self.push(action) + self.chance())
        self.place = (self.place + self.speed) % 1.0
        return self.look(), self.speed, False, self.count >= self.limit, {"count": self.count}

    def push(self, action):
        return float(action) - 1.0

    def chance(self):
        return float(self.np_random.normal())

    def look(self):
        angle = 2 * np.pi * self.place
        return np.array([np.cos(angle), np.sin(angle), self.speed, self.count / 100], np.float32)

    def render(self):
        return np.full((8, 8, 3), int(255 * self.place), np.uint8)

    @property
    def late(self):
        return self.count > LATE


class GlobalNoise(Sound):
    def chance(self):
        return np.random.normal() if self.late else super().chance()


class PythonNoise(Sound):
    def chance(self):
        return random.gauss(0, 1) if self.late else super().chance()


class SystemNoise(Sound):
    def chance(self):
        return np.random.default_rng().normal() if self.late else super().chance()


class ClockNoise(Sound):
    def chance(self):
        return time.perf_counter() % 1 if self.late else super().chance()


class ActionSpaceNoise(Sound):
    """Its chance comes from the action space, which the caller seeds."""

    def chance(self):
        return float(self.action_space.sample()) if self.late else super().chance()


class EachAnother(Sound):
    numbers = itertools.count()

    def __init__(self, **options):
        super().__init__(**options)
        self.offset = next(self.numbers) % 7

    def push(self, action):
        return super().push(action) + self.offset


class SharedSpeed(Sound):
    """Its speed belongs to the class."""

    shared = [0.0]

    def step(self, action):
        self.speed = self.shared[0]
        result = super().step(action)
        self.shared[0] = self.speed
        return result

    def reset(self, *, seed=None, options=None):
        self.shared[0] = 0.0
        return super().reset(seed=seed, options=options)


class SeedsTheWorld(Sound):
    def reset(self, *, seed=None, options=None):
        if seed is not None:
            np.random.seed(seed)
        return super().reset(seed=seed, options=options)


class NanReward(Sound):
    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, float("nan") if self.late else reward, *rest


class InfiniteInfo(Sound):
    def step(self, action):
        *rest, info = super().step(action)
        return *rest, info | {"energy": np.inf if self.late else 0.0}


class NanObservation(Sound):
    def look(self):
        return super().look() * np.float32(np.nan if self.late else 1)


class OutOfSpace(Sound):
    def look(self):
        return super().look() * np.float32(5 if self.late else 1)


class OtherType(Sound):
    def look(self):
        return super().look().astype(np.float16 if self.late else np.float32)


class RewardInAList(Sound):
    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, [reward] if self.late else reward, *rest


class FlagAsNumber(Sound):
    def step(self, action):
        observation, reward, terminated, *rest = super().step(action)
        return observation, reward, 0 if self.late else terminated, *rest


class Crash(Sound):
    def step(self, action):
        if self.count == LATE:
            raise IndexError("list index out of range")
        return super().step(action)


class DeafToActions(Sound):
    def push(self, action):
        return 0.0


class DeafInTheEnd(Sound):
    """Deaf from the second episode on."""

    rounds = 0

    def reset(self, *, seed=None, options=None):
        self.rounds = 0 if seed is not None else self.rounds + 1
        return super().reset(seed=seed, options=options)

    def push(self, action):
        return 0.0 if self.rounds or self.count > 40 else super().push(action)


class KeepsSpeed(Sound):
    """Its speed outlives a reset, once an episode was long."""

    def reset(self, *, seed=None, options=None):
        speed = self.speed if hasattr(self, "speed") and self.late else 0.0
        result = super().reset(seed=seed, options=options)
        self.speed = speed
        return result


class KeepsCount(Sound):
    """Its clock runs on through a reset, once an episode was long."""

    def reset(self, *, seed=None, options=None):
        count = self.count if hasattr(self, "count") and self.late else 0
        result = super().reset(seed=seed, options=options)
        self.count = count
        return result


class SameRoundAgain(Sound):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=7 if seed is None else seed, options=options)


class ReusedBuffer(Sound):
    buffer = None

    def look(self):
        seen = super().look()
        if not self.late:
            self.buffer = None
            return seen
        self.buffer = seen if self.buffer is None else self.buffer
        self.buffer[:] = seen
        return self.buffer


class ReusedInfo(Sound):
    kept = {}

    def step(self, action):
        *rest, info = super().step(action)
        if not self.late:
            return *rest, info
        self.kept.clear()
        self.kept.update(info)
        return *rest, self.kept


class LivesInTheObservation(Sound):
    """Its speed is kept in the array that the caller holds."""

    held = None

    def step(self, action):
        if self.late and self.held is not None:
            self.speed = float(self.held[2])
        result = super().step(action)
        self.held = result[0]
        return result


class ChangesTheAction(Sound):
    def make_actions(self):
        return gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def push(self, action):
        if self.late:
            action *= 0.5
        return float(action[0])


class RenderMoves(Sound):
    def render(self):
        self.place = (self.place + 0.01) % 1.0
        return super().render()


class EmptyOptionsDrawMore(Sound):
    def reset(self, *, seed=None, options=None):
        result = super().reset(seed=seed)
        if options is not None:
            self.chance()
        return result


class Diary(Sound):
    """It remembers every observation."""

    def __init__(self, **options):
        super().__init__(**options)
        self.pages = []

    def look(self):
        self.pages.append(super().look())
        return self.pages[-1].copy()


class GrowingInfo(Sound):
    def __init__(self, **options):
        super().__init__(**options)
        self.rewards = []

    def step(self, action):
        *rest, info = super().step(action)
        self.rewards.append(rest[1] + 1e-9)
        return *rest, info


DEFECTS = {
    GlobalNoise: "global random generator",
    PythonNoise: "global random generator",
    SystemNoise: "another result",
    ClockNoise: "another result",
    ActionSpaceNoise: "another result",
    EachAnother: "in a new environment",
    SharedSpeed: "in turn with another",
    SeedsTheWorld: "reset\\(\\) moves a global random generator",
    NanReward: "reward holds a number that is not finite",
    InfiniteInfo: "info holds a number that is not finite",
    NanObservation: "observation",
    OutOfSpace: "leaves its space",
    OtherType: "changes its type",
    RewardInAList: "no plain number",
    FlagAsNumber: "no bool",
    Crash: "step\\(\\) raises at step 61: IndexError",
    DeafToActions: "no effect after 0 steps",
    DeafInTheEnd: "no effect after 60 steps",
    KeepsSpeed: "another result",
    KeepsCount: "another result",
    SameRoundAgain: "the same episode again",
    ReusedBuffer: "has changed since",
    ReusedInfo: "info of step",
    LivesInTheObservation: "writes on what was returned",
    ChangesTheAction: "changes the action",
    RenderMoves: "rendered at each step",
    EmptyOptionsDrawMore: "with empty options",
    Diary: "memory grows",
    GrowingInfo: "memory grows",
}


def test_a_sound_environment_passes():
    deep_check_env(Sound, steps=STEPS)


@pytest.mark.parametrize("defect, words", DEFECTS.items(), ids=[each.__name__ for each in DEFECTS])
def test_a_defect_that_gymnasiums_checker_lets_pass_is_found(defect, words):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(defect())
    with pytest.raises(DeepCheckError, match=words) as error:
        deep_check_env(defect, steps=STEPS)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("defect", DEFECTS, ids=[each.__name__ for each in DEFECTS])
def test_sb3s_checker_lets_it_pass_too(defect):
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checker.check_env(defect())


def test_the_global_generators_are_left_as_they_were():
    random.seed(1)
    np.random.seed(1)
    right = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)
    deep_check_env(Sound, steps=40)
    assert (random.random(), np.random.random()) == right


@pytest.mark.parametrize("check", [check for check in CHECKS if check is not check_memory])
def test_a_world_passes(check, tmp_path, one_thread):
    """A dozen steps are too few for its memory, which test_vector.py watches."""
    model = WorldModel.from_pretrained(save_tiny_world(tmp_path))
    check(lambda: WorldEnv(model, max_episode_steps=6, render_mode="rgb_array"), 12, 0)


def test_an_environment_where_one_that_makes_some_is_wanted_is_one_line():
    with pytest.raises(TypeError, match="makes no environment; give a function, such as lambda: gym.make"):
        deep_check_env(gym.make("CartPole-v1"))
