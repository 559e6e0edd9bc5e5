"""A checker of gymnasium environments that plays them for long: it finds what a few steps do not show.

    from worldsim_envs.deep_check import deep_check_env

    deep_check_env(lambda: gymnasium.make("worldsim/Boxing-v0"))

It checks behaviour and leaves the interface to `gymnasium.utils.env_checker.check_env`, which should pass first.
"""

from __future__ import annotations

import copy
import gc
import itertools
import random
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

Make = Callable[[], gym.Env]

LEAK_BYTES = 16
"""Growth a step, in every quarter of a run, that counts as a leak: less than one number kept in a list."""
KEPT = 8
"""Steps for which the checker holds on to what was returned, to see whether it changes."""


class DeepCheckError(AssertionError):
    """What an environment does wrong, in one line."""


@dataclass(frozen=True)
class Moment:
    """What one step, or a reset, returned."""

    observation: Any
    reward: float
    terminated: bool
    truncated: bool
    info: dict

    def mark(self) -> tuple:
        """What must be equal wherever seed and actions are; infos may hold times and do not count."""
        return mark(self.observation), mark(self.reward), bool(self.terminated), bool(self.truncated)


def deep_check_env(make: Make, *, steps: int = 1000, seed: int = 0) -> None:
    """Check an environment; DeepCheckError in one line at the first thing that is wrong.

    make:  returns a new environment at each call, all of the same kind.
    steps: how long each of the runs is, some 15 of them; below about 100 a leak cannot be told from memory that fills
           once.
    """
    if not callable(make):
        raise TypeError(f"{make!r} makes no environment; give a function, such as lambda: gym.make('CartPole-v1')")
    states = random.getstate(), np.random.get_state()
    try:
        for check in CHECKS:
            check(make, steps, seed)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def check_steps(make: Make, steps: int, seed: int) -> None:
    """Everything returned is of its space and type, finite, and no generator but the environment's own is moved."""
    env = make()
    shape = _form(env.reset(seed=seed)[0])
    for number, moment in enumerate(play(env, steps, seed, scramble=True)):
        where = f"at step {number}"
        _require(env.observation_space.contains(moment.observation), f"the observation leaves its space {where}")
        _require(_form(moment.observation) == shape, f"the observation changes its type or shape {where}")
        _require(np.isscalar(moment.reward) and np.isreal(moment.reward), f"the reward is no plain number {where}")
        flags = (moment.terminated, moment.truncated)
        _require(all(isinstance(flag, bool | np.bool_) for flag in flags), f"a flag of the end is no bool {where}")
        for name, value in (("observation", moment.observation), ("reward", moment.reward), ("info", moment.info)):
            _require(is_finite(value), f"the {name} holds a number that is not finite {where}")


def check_determinism(make: Make, steps: int, seed: int) -> None:
    """The same seed and actions give the same episodes: again, in a new environment, and beside another one."""
    env, other = make(), make()
    right = marks(env, steps, seed)
    _same(right, marks(env, steps, seed, scramble=True), "played again")
    _same(right, marks(make(), steps, seed, scramble=True), "played in a new environment")
    beside = play(other, steps, seed + 1)
    together = [(moment.mark(), next(beside, None))[0] for moment in play(env, steps, seed)]
    _same(right, together, "played in turn with another environment")


def check_resets(make: Make, steps: int, seed: int) -> None:
    """A reset begins afresh from any state, and without a seed goes on to another episode where seeds matter."""
    env, short = make(), max(steps // 5, 20)
    right = marks(env, short, seed)
    for played in (0, 1, 7, steps // 3, 2 * steps // 3):
        for _ in play(env, played, seed + 3):
            pass
        _same(right, marks(env, short, seed), f"begun after {played} other steps")
    _same(right, marks(env, short, seed, options={}), "begun with empty options")
    seeds = {str(_first(env, short, seed + offset)) for offset in range(3)}
    env.reset(seed=seed)
    rounds = {str(_first(env, short, None)) for _ in range(3)}
    if len(seeds) > 1:
        _require(len(rounds) > 1, "reset() without a seed begins the same episode again and again")


def check_actions(make: Make, steps: int, seed: int) -> None:
    """Actions make a difference at the start and later on, and are left as they were given."""
    env = make()
    for lead in (0, steps // 2):
        ways = {str(_after(env, lead, min(steps, 50), seed, way)) for way in range(6)}
        _require(len(ways) > 1, f"actions have no effect after {lead} steps: six sequences of them end up the same")
    actions = copy.deepcopy(env.action_space)
    actions.seed(seed)
    env.reset(seed=seed)
    for number in range(steps):
        action = actions.sample()
        given = mark(action)
        *_, terminated, truncated, _ = env.step(action)
        _require(mark(action) == given, f"step() changes the action that it is given, at step {number}")
        if terminated or truncated:
            env.reset()


def check_aliasing(make: Make, steps: int, seed: int) -> None:
    """What was returned never changes later, and the caller may write on it."""
    env = make()
    right, kept = marks(env, steps, seed), []
    for number, moment in enumerate(play(env, steps, seed)):
        for age, (old, was) in enumerate(reversed(kept), start=1):
            _require(moment.info is not old.info, f"the info of step {number} is the one of {age} steps before, reused")
            _require(mark((old.observation, old.info)) == was, f"what step {number - age} returned has changed since")
        kept = [*kept, (moment, mark((moment.observation, moment.info)))][-KEPT:]
    scribbled = []
    for moment in play(env, steps, seed):
        scribbled.append(moment.mark())
        _scribble(moment.observation)
        _scribble(moment.info)
    _same(right, scribbled, "played by a caller who writes on what was returned")


def check_render(make: Make, steps: int, seed: int) -> None:
    """render() changes nothing; left out where the environment has no render mode."""
    env = make()
    if env.render_mode is None:
        return
    short = max(steps // 4, 20)
    right = marks(env, short, seed)
    shown = [(moment.mark(), env.render())[0] for moment in play(env, short, seed)]
    _same(right, shown, "rendered at each step")


def check_memory(make: Make, steps: int, seed: int) -> None:
    """Playing on does not take more and more memory."""
    env, part = make(), max(steps // 4, 5)
    moments = play(env, 6 * part, seed)
    tracemalloc.start()
    try:
        used = [_used_after(moments, part) for _ in range(6)][1:]
    finally:
        tracemalloc.stop()
    growth = [(later - before) / part for before, later in itertools.pairwise(used)]
    filling = growth[-1] < growth[0] / 2  # a pool of torch's or Python's own, which fills more and more slowly
    leaks = min(growth) > LEAK_BYTES and not filling
    _require(not leaks, f"memory grows by {min(growth):.0f} bytes or more at each step")


def play(
    env: gym.Env, steps: int, seed: int | None, *, options: dict | None = None, scramble: bool = False
) -> Iterator[Moment]:
    """A reset and so many steps under actions that follow from the seed; where an episode ends the next one begins.

    scramble: put the global generators into another state before each step, and see that they are left alone.
    """
    actions = copy.deepcopy(env.action_space)
    actions.seed(0 if seed is None else seed)
    asked = {"seed": seed} | ({} if options is None else {"options": options})
    observation, info = _guarded(lambda: env.reset(**asked), "reset", 0, scramble)
    yield Moment(observation, 0.0, False, False, info)
    for number in range(1, steps + 1):
        action = actions.sample()
        moment = Moment(*_guarded(lambda action=action: env.step(action), "step", number, scramble))
        yield moment
        if moment.terminated or moment.truncated:
            observation, info = _guarded(env.reset, "reset", number, scramble)
            yield Moment(observation, 0.0, False, False, info)


CHECKS = (check_steps, check_determinism, check_resets, check_actions, check_aliasing, check_render, check_memory)


def marks(env: gym.Env, steps: int, seed: int | None, **how: Any) -> list[tuple]:
    """The marks of a run."""
    return [moment.mark() for moment in play(env, steps, seed, **how)]


def mark(value: Any) -> Any:
    """Something that is equal for equal observations, actions and infos, whatever is done to the value later."""
    if isinstance(value, Mapping):
        return tuple((str(key), mark(each)) for key, each in value.items())
    if isinstance(value, tuple | list):
        return tuple(mark(each) for each in value)
    array = np.asarray(value)
    return repr(value) if array.dtype == object else (array.dtype.str, array.shape, array.tobytes())


def is_finite(value: Any) -> bool:
    """Whether all numbers in it are."""
    if isinstance(value, Mapping):
        return all(is_finite(each) for each in value.values())
    if isinstance(value, tuple | list):
        return all(is_finite(each) for each in value)
    array = np.asarray(value)
    return bool(np.isfinite(array).all()) if array.dtype.kind in "fc" else True


def _guarded(work: Callable[[], Any], name: str, number: int, scramble: bool) -> Any:
    if scramble:
        random.seed(number)
        np.random.seed(number)
    before = _global_generators()
    try:
        result = work()
    except Exception as error:
        raise DeepCheckError(f"{name}() raises at step {number}: {type(error).__name__}: {error}") from error
    _require(_global_generators() == before, f"{name}() moves a global random generator, at step {number}")
    return result


def _global_generators() -> tuple:
    torch = sys.modules.get("torch")
    numbers = np.random.get_state()
    others = () if torch is None else (torch.get_rng_state().numpy().tobytes(),)
    return hash(random.getstate()), numbers[1].tobytes(), numbers[2], *others


def _first(env: gym.Env, steps: int, seed: int | None) -> list[tuple]:
    """An episode's beginning under fixed actions. seed None: whatever comes next."""
    actions = copy.deepcopy(env.action_space)
    actions.seed(0)
    seen = [mark(env.reset(seed=seed)[0])]
    for _ in range(steps):
        observation, reward, terminated, truncated, _ = env.step(actions.sample())
        seen.append((mark(observation), mark(reward)))
        if terminated or truncated:
            break
    return seen


def _after(env: gym.Env, lead: int, steps: int, seed: int, way: int) -> list[tuple]:
    """So many steps under one of several action sequences, after a fixed lead."""
    for _ in play(env, lead, seed):
        pass
    actions, seen = copy.deepcopy(env.action_space), []
    actions.seed(1000 + way)
    for _ in range(steps):
        observation, reward, terminated, truncated, _ = env.step(actions.sample())
        seen.append((mark(observation), mark(reward)))
        if terminated or truncated:
            env.reset()
    return seen


def _used_after(moments: Iterator[Moment], count: int) -> int:
    for _ in range(count):
        next(moments, None)
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def _scribble(value: Any) -> None:
    if isinstance(value, Mapping):
        for each in value.values():
            _scribble(each)
    elif isinstance(value, tuple | list):
        for each in value:
            _scribble(each)
    elif isinstance(value, np.ndarray) and value.flags.writeable and value.dtype != object:
        value[...] = 0


def _form(value: Any) -> Any:
    """Types and shapes."""
    if isinstance(value, Mapping):
        return {key: _form(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_form(each) for each in value]
    return type(value), np.asarray(value).dtype, np.shape(value)


def _same(right: Sequence[tuple], seen: Sequence[tuple], how: str) -> None:
    for number, (one, other) in enumerate(itertools.zip_longest(right, seen)):
        _require(one == other, f"the same seed and actions give another result at step {number} when {how}")


def _require(holds: bool, wrong: str) -> None:
    if not holds:
        raise DeepCheckError(wrong)
