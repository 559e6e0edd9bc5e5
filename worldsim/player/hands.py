"""Who plays: the keys, a random player or a trained agent, each from the state that the one before left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from worldsim.action import ActionSpec
from worldsim.player.controls import RandomHands

YOU, RANDOM, AGENT = "you", "random", "agent"

Agent = Callable[[np.ndarray], Any]
"""Chooses one of the source game's own actions for the frame (H, W, 3) uint8 on the screen. One that remembers frames
may have `reset()`, which forgets them."""


def forget(agent: Agent) -> None:
    """Let the agent's next frame be its first, where it has a way to."""
    getattr(agent, "reset", lambda: None)()


class Hands:
    """The players that take turns. agent: a trained one, None where there is none; seed: of the random one."""

    def __init__(self, spec: ActionSpec, agent: Agent | None, seed: int) -> None:
        chance = RandomHands(spec, np.random.default_rng(seed))
        self._spec = spec
        self._players: dict[str, Agent] = {RANDOM: lambda frame: chance.act()}
        if agent is not None:
            self._players[AGENT] = agent
        self.name = YOU

    @property
    def note(self) -> str:
        """Who plays, as a sentence."""
        return {YOU: "you play", RANDOM: "a random player plays", AGENT: "the agent plays"}[self.name]

    @property
    def caption(self) -> str:
        """Who plays where the keys reach."""
        return "your keys" if self.name == YOU else self.name

    @property
    def told(self) -> str:
        """Who plays where the keys do not reach."""
        return "at rest" if self.name == YOU else self.name

    def swap(self) -> None:
        """The next player's turn: you, random, the agent, you."""
        names = [YOU, *self._players]
        self.name = names[(names.index(self.name) + 1) % len(names)]
        self.forget()

    def forget(self) -> None:
        """What comes next does not follow on what the agent saw last."""
        for player in self._players.values():
            forget(player)

    def act(self, frame: np.ndarray, pressed: np.ndarray) -> Any:
        """The action of whose turn it is. frame: now on the screen; pressed: (A,) channel vector of the keys."""
        if self.name == YOU:
            return self._spec.decode(pressed)
        action = self._players[self.name](frame)
        if np.shape(self._spec.encode(action)) != (self._spec.size,):
            raise ValueError(f"the agent chose {action!r}, which is not one action of {self._spec.space()}")
        return action

    def idle(self, frame: np.ndarray) -> Any:
        """The action of the other future: of the agent where there is one and it is its turn, else at rest."""
        return self.act(frame, np.zeros(self._spec.size, np.float32))
