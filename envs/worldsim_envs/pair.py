"""Encounter for several players, each with a body of its own: a PettingZoo parallel environment over game or world."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from worldsim.checks import is_whole
from worldsim_envs.encounter.env import EncounterEnv
from worldsim_envs.encounter.game import SLOTS, check_no_steps
from worldsim_envs.encounter.rules import BUTTONS
from worldsim_envs.env import WorldEnv
from worldsim_envs.games.encounter import Encounter
from worldsim_envs.rules import NO_LIMIT

try:
    from pettingzoo import ParallelEnv
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        'several players need PettingZoo: pip install "worldsim[rl]"', name="pettingzoo"
    ) from None

if TYPE_CHECKING:
    from worldsim.world_model import WorldModel

GAME = "game"
PLAYER = "player"
ACTIONS = ("stay", *BUTTONS)
WORLD_OPTIONS = ("start", "frames", "actions", "steps")


class EncounterParallelEnv(ParallelEnv):
    """The player and the people it meets, each moved by an agent: "player", "npc" and, where there are two, "npc2".

    world:             "game" for the source game itself, or a world that imagines it: a shipped world's name, a folder
                       that `WorldModel.save_pretrained` wrote, or a `WorldModel`.
    npcs:              1 or 2 in the source game; a world has its own number of them (None).
    max_episode_steps: frames until all are truncated.
    steps, device:     of a world, as in `WorldEnv`.

    An agent's action is one of `ACTIONS`, by number: "stay" or a button that is held. All see the same frame
    (64, 64, 3) uint8. The game's reward, 1 for a warm answer and -1 when the player falls, is the player's; each of the
    others gets its negative, so that a fight of two is a zero-sum game. An NPC that falls costs nobody anything: a
    world knows the game's own reward only. Driven NPCs have no mind: no warm answer comes of itself.
    """

    metadata = {"name": "worldsim_encounter_pair", "render_modes": ["rgb_array", "human"], "is_parallelizable": True}

    def __init__(
        self,
        world: str | WorldModel = GAME,
        *,
        npcs: int | None = None,
        max_episode_steps: int = Encounter.max_episode_steps,
        render_mode: str | None = None,
        steps: int | None = None,
        device: str = "cpu",
    ) -> None:
        if not is_whole(max_episode_steps) or max_episode_steps < 1:
            raise ValueError(f"max_episode_steps={max_episode_steps!r}; give a number of frames from 1")
        if isinstance(world, str) and world == GAME:
            check_no_steps(steps)
            self._env: gym.Env = EncounterEnv(npcs=1 if npcs is None else npcs, render_mode=render_mode)
        elif npcs is not None:
            raise ValueError(f"npcs={npcs!r}; a world has its own number of them, so leave it out")
        else:
            limits = {"max_episode_steps": NO_LIMIT, "render_mode": render_mode}
            self._env = WorldEnv(world, steps=steps, device=device, channel_actions=True, **limits)
        self.possible_agents = [PLAYER, *_slots(self._env.actions)]
        self.agents: list[str] = []
        self.render_mode, self._limit, self._step = render_mode, max_episode_steps, 0
        self.metadata = {**type(self).metadata, "render_fps": self._env.metadata["render_fps"]}
        self._action_spaces = {agent: gym.spaces.Discrete(len(ACTIONS)) for agent in self.possible_agents}

    def observation_space(self, agent: str) -> gym.Space:
        """(64, 64, 3) uint8, the same for all."""
        return self._env.observation_space

    def action_space(self, agent: str) -> gym.Space:
        """Discrete(9): a place in `ACTIONS`."""
        return self._action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None):
        """Begin an episode: observations and infos by agent.

        options: of a world `start`, `frames`, `actions` and `steps`, as in `WorldEnv.reset`; others are ignored, as
        PettingZoo's own test wants it.
        """
        known = WORLD_OPTIONS if isinstance(self._env, WorldEnv) else ()
        options = {name: value for name, value in (options or {}).items() if name in known}
        frame, info = self._env.reset(seed=seed, options=options)
        self.agents, self._step = list(self.possible_agents), 0
        return {agent: frame.copy() for agent in self.agents}, {agent: dict(info) for agent in self.agents}

    def step(self, actions: dict[str, int]):
        """Play one frame under one action of each agent: observations, rewards, terminations, truncations, infos.

        Raises ValueError in one line where an agent's action is missing or is none, and then leaves the episode as it
        was; ResetNeeded where the episode is over.
        """
        if not self.agents:
            raise gym.error.ResetNeeded("the episode is over or was never begun; call reset()")
        frame, reward, terminated, truncated, info = self._env.step(self._vector(actions))
        self._step += 1
        agents = self.agents
        truncated = truncated or self._step >= self._limit
        rewards = {agent: reward if agent == PLAYER else -reward for agent in agents}
        if terminated or truncated:
            self.agents = []
        return (
            {agent: frame.copy() for agent in agents},
            rewards,
            dict.fromkeys(agents, terminated),
            dict.fromkeys(agents, truncated),
            {agent: dict(info) for agent in agents},
        )

    def render(self) -> np.ndarray | None:
        """The present frame (64, 64, 3) uint8 in mode "rgb_array"."""
        return self._env.render()

    def close(self) -> None:
        """Close the window, if there is one."""
        self._env.close()

    def _vector(self, actions: dict[str, int]) -> np.ndarray:
        """One channel vector (A,) of every agent's action, in which all NPCs are driven."""
        if not isinstance(actions, Mapping) or set(actions) != set(self.agents):
            named = actions if isinstance(actions, Mapping) else ()
            seen, right = ", ".join(map(str, named)) or "nobody", ", ".join(self.agents)
            raise ValueError(f"actions are of {seen}; give one each of {right}")
        held = {}
        for agent, action in actions.items():
            if not self._action_spaces[agent].contains(action):
                right = f"0 to {len(ACTIONS) - 1}: {', '.join(ACTIONS)}"
                raise ValueError(f"action {action!r} of {agent} is none; give {right}")
            prefix = "" if agent == PLAYER else f"{agent}_"
            held |= {f"{prefix}driven": 1.0} if prefix else {}
            held |= {f"{prefix}{ACTIONS[action]}": 1.0} if action else {}
        return self._env.actions.vector(**held)


def _slots(actions) -> list[str]:
    names = {channel.name for channel in actions.channels}
    slots = [slot for slot in SLOTS if f"{slot}_driven" in names]
    if not slots or not names.issuperset(BUTTONS):
        raise ValueError(f"this world has nobody to drive, only {', '.join(sorted(names))}; give a world of Encounter")
    return slots
