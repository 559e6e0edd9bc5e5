"""The part of a world's action that an agent plays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from worldsim.action import DRIVEN, ActionSpec


class Role:
    """All of a world's action but the conditions that are fixed for the agent, and the channels that belong to them.

    whole:           the world's own actions.
    fixed:           condition -> the value that holds in every episode, or None for one that each episode draws.
    channel_actions: actions are channel vectors instead of the source game's own.
    Raises ValueError in one line for a condition or a value that there is not.

    A policy that learnt in such a world plays the real game through `gymnasium.wrappers.TransformAction(game,
    role.encode, role.space)`.
    """

    def __init__(
        self, whole: ActionSpec, fixed: Mapping[str, str | None] | None = None, *, channel_actions: bool = False
    ) -> None:
        if fixed is not None and not isinstance(fixed, Mapping):
            raise ValueError(f"fixed={fixed!r}; give what holds by condition, as {{'npc': 'timid'}}, None to draw it")
        self.fixed, self.channel_actions = dict(fixed or {}), channel_actions
        self.actions = whole.without(self.fixed) if self.fixed else whole
        """What the agent's actions mean: channels, names and keys."""
        self.space = self.actions.channel_space() if channel_actions else self.actions.space()
        whole.condition_vector({group: value for group, value in self.fixed.items() if value is not None})
        self._whole = whole
        self._places = [whole.index(channel.name) for channel in self.actions.channels]

    def encode(self, actions: Any) -> np.ndarray:
        """The world's channel vectors (..., A) float32 of actions of `space`, at rest in what is fixed; ValueError in
        one line for any other."""
        spec = self.actions
        mine = spec.encode_channels(actions) if self.channel_actions else spec.encode(actions)
        vectors = np.zeros((*mine.shape[:-1], self._whole.size), np.float32)
        vectors[..., self._places] = mine
        return vectors

    def draw(self, rng: np.random.Generator) -> dict[str, str]:
        """What is fixed for one episode, condition -> value. Drawn are values under which something moves by itself."""
        return {group: value or self._drawn(group, rng) for group, value in self.fixed.items()}

    def _drawn(self, group: str, rng: np.random.Generator) -> str:
        lifeless = DRIVEN if self._whole.further(group) else None
        values = [value for value in self._whole.conditions[group] if value != lifeless]
        return values[int(rng.integers(len(values)))]
