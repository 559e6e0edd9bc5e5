"""Agents by name or file, which play a world or its source game."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain, combinations, cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from worldsim.action import ActionSpec
from worldsim.names import did_you_mean
from worldsim.player.controls import RandomHands
from worldsim.player.hands import Agent
from worldsim_envs.games.policies import HeldRandom
from worldsim_envs.real import plain
from worldsim_envs.role import Role

if TYPE_CHECKING:
    from worldsim_envs.env import WorldEnv


@dataclass(frozen=True)
class _Remembering:
    """An agent that forgets what it saw by `reset`."""

    act: Agent
    reset: Callable[[], None]

    def __call__(self, observation: np.ndarray) -> Any:
        return self.act(observation)


def load_agent(name: str, env: WorldEnv, rng: np.random.Generator, *, others: Iterable[str] = ()) -> Agent:
    """The agent of that name, of that .json, .py or .zip file, or of a policy's folder. One-line errors otherwise.

    others: names that the caller knows besides, for the error.
    """
    if name == "random":
        return _random_agent(env, rng)
    if name == "noop":
        rest = env.actions.decode(np.zeros(env.actions.size))
        return lambda observation: rest
    path = Path(name)
    if path.is_dir():
        return _policy_agent(path, env, rng)
    if path.suffix not in (".json", ".py", ".zip"):
        names = ("random", "noop", *others)
        known = f"{', '.join(names)}, a .json list of actions, a .py file with act(), SB3's .zip or a policy's folder"
        raise ValueError(f"unknown agent {name!r}; {did_you_mean(name, names)}use {known}")
    if not path.is_file():
        raise FileNotFoundError(f"agent file {name!r} does not exist")
    if path.suffix == ".zip":
        from worldsim_envs.sb3_agent import trained_agent  # here, because it loads torch

        return _in_its_role(env.actions, lambda role: trained_agent(path, env.observation_space, role.space))
    return _listed_agent(path, env.actions) if path.suffix == ".json" else _scripted_agent(path, rng)


def _random_agent(env: WorldEnv, rng: np.random.Generator) -> Agent:
    if env.actions.table is None:
        hands = RandomHands(env.actions, rng)
        return lambda observation: hands.act()
    policy = HeldRandom(rng)
    return lambda observation: policy(env)


def _listed_agent(path: Path, spec: ActionSpec) -> Agent:
    try:
        actions = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"agent file {str(path)!r} is not JSON: {error}") from None
    if not isinstance(actions, list) or not actions:
        raise ValueError(f"agent file {str(path)!r} holds no actions; give a JSON list such as [0, 2, 2, 1]")
    for action in actions:
        _check_action(action, spec, path)
    turns = cycle(actions)
    return lambda observation: next(turns)


def _check_action(action: Any, spec: ActionSpec, path: Path) -> None:
    try:
        fits = spec.encode(action).shape == (spec.size,)
    except ValueError as error:
        raise ValueError(f"agent file {str(path)!r}: {error}") from None
    if not fits:
        raise ValueError(f"agent file {str(path)!r}: {action!r} is not one action of {spec.space()}")


def _scripted_agent(path: Path, rng: np.random.Generator) -> Agent:
    spec = importlib.util.spec_from_file_location(f"worldsim_agent_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    act = getattr(module, "act", None)
    if not callable(act):
        raise ValueError(f"agent file {str(path)!r} defines no act(observation, rng)")
    return _remembering(lambda observation: act(observation, rng), module)


def _remembering(agent: Agent, owner: object) -> Agent:
    """The agent with its owner's `reset`, where there is one."""
    reset = getattr(owner, "reset", None)
    return _Remembering(agent, reset) if callable(reset) else agent


def _policy_agent(path: Path, env: WorldEnv, rng: np.random.Generator) -> Agent:
    from worldsim_envs.pixel_policy import PixelPolicy, PolicyPlayer, check_policy  # here, because it loads torch

    policy = PixelPolicy.from_pretrained(path)

    def load(role: Role) -> Agent:
        check_policy(policy, env.observation_space.shape, role.actions, path)
        player = PolicyPlayer(policy, rng)
        return _remembering(lambda observation: plain(player(observation[None])[0]), player)

    return _in_its_role(env.actions, load)


def _in_its_role(actions: ActionSpec, load: Callable[[Role], Agent]) -> Agent:
    """The agent that `load` has for the first role it fits: all of a world's actions, or, as in an environment with
    `fixed`, those without some conditions, in which its actions then rest. `load` raises ValueError where it fits none.
    """
    refusals = []
    for fixed in chain(*(combinations(actions.conditions, count) for count in range(len(actions.conditions) + 1))):
        try:
            role = Role(actions, dict.fromkeys(fixed))
            agent = load(role)
        except ValueError as error:
            refusals.append(error)
        else:
            return _acting_whole(agent, role, actions) if fixed else agent
    raise refusals[0]


def _acting_whole(agent: Agent, role: Role, actions: ActionSpec) -> Agent:
    return _remembering(lambda observation: actions.decode(role.encode(agent(observation))), agent)
