"""Real play on which the battery's own instruments are fitted; of seeds that no held-out episode has."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from worldsim_envs.games import Game

TRACE_STEPS, LEAD_STEPS = 150, 60
TRACE_SPLIT = 97
"""In the place where a seed names its split, so that no recording and no evaluation shares an episode."""


@dataclass(frozen=True)
class Trace:
    """T steps: frames (T+1, H, W, 3) uint8, actions (T,), rewards (T,) and the game's state (T+1, S) or None."""

    frames: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    states: np.ndarray | None


def random_trace(game: Game, policy: str, seed: tuple[int, ...], steps: int = TRACE_STEPS) -> Trace:
    """Uniformly random actions, none held, after up to 60 steps of a policy, which brings the game to where it goes.

    A game that has ended by then begins again, and the policy leaves it sooner.
    """
    rng, lead, whole = np.random.default_rng(seed), LEAD_STEPS + 1, None
    while whole is None or len(whole.actions) <= lead:
        lead = int(rng.integers(lead))
        whole = _trace(game, seed, lead + steps, _led(game, policy, lead, rng))
    states = None if whole.states is None else whole.states[lead:]
    return Trace(whole.frames[lead:], whole.actions[lead:], whole.rewards[lead:], states)


def _led(game: Game, policy: str, lead: int, rng: np.random.Generator) -> Callable[[Game], Any]:
    """Chooses as the policy does for so many steps and uniformly from then on."""
    choose, natives, taken = game.policies()[policy](rng), game.natives(), itertools.count()
    return lambda game: choose(game) if next(taken) < lead else natives[rng.integers(len(natives))]


def policy_trace(game: Game, policy: str, seed: tuple[int, ...], steps: int = TRACE_STEPS) -> Trace:
    """One of the game's own policies."""
    return _trace(game, seed, steps, game.policies()[policy](np.random.default_rng(seed)))


def instrument_traces(game: Game, count: int, seed: int) -> tuple[list[Trace], list[Trace]]:
    """Traces of uniformly random actions, and traces of the game's policies in turn; `count` of each."""
    names = list(game.policies())
    seeds = [(seed, TRACE_SPLIT, i) for i in range(2 * count)]
    uniform = [random_trace(game, names[i % len(names)], one) for i, one in enumerate(seeds[:count])]
    return uniform, [policy_trace(game, names[i % len(names)], one) for i, one in enumerate(seeds[count:])]


def _trace(game: Game, seed: tuple[int, ...], steps: int, choose: Callable) -> Trace:
    frames, actions, rewards, states = [game.reset(np.random.SeedSequence(seed))], [], [], [game.visible_state()]
    ended = False
    while not ended and len(actions) < steps:
        actions.append(choose(game))
        frame, reward, ended = game.step(actions[-1])
        frames.append(frame)
        rewards.append(reward)
        states.append(game.visible_state())
    told = None if states[0] is None else np.stack(states)
    return Trace(np.stack(frames), np.array(actions), np.array(rewards, np.float32), told)
