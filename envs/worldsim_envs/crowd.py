"""N worlds of one model in play: painted together as one batch, or in turn.

Both offer the same: `step` all worlds, `put` a world into a place, `get` a copy of one, and the frames now on screen.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from worldsim.world_model import Step, WorldModel, WorldState


class Together:
    """Worlds that the network paints in one call. states: one world each."""

    def __init__(self, model: WorldModel, states: Sequence[WorldState]) -> None:
        self.model = model
        self.state = WorldState.join(states)

    def step(self, vectors: Tensor, steps: int) -> Step:
        """Change all worlds by one frame under channel vectors (N, A) float32."""
        return self.model.step(self.state, vectors, steps=steps)

    def put(self, place: int, state: WorldState) -> None:
        """Change one world into a copy of the one world of `state`."""
        self.state.put([place], state)

    def get(self, place: int) -> WorldState:
        """An independent copy of one world."""
        return self.state.select([place])

    def frames(self) -> Tensor:
        """(N, 3, H, W) uint8, the frames now on screen; a copy."""
        return self.state.last.clone()


class InTurn:
    """Worlds that the network paints one after another, each in a batch of one, as a single environment does."""

    def __init__(self, model: WorldModel, states: Sequence[WorldState]) -> None:
        self.model = model
        self.states = [state.clone() for state in states]

    def step(self, vectors: Tensor, steps: int) -> Step:
        """As `Together.step`."""
        turns = zip(self.states, vectors.split(1), strict=True)
        done = [self.model.step(state, vector, steps=steps) for state, vector in turns]
        parts = zip(*((each.frame, each.reward, each.ended) for each in done), strict=True)
        return Step(*(torch.cat(part) for part in parts))

    def put(self, place: int, state: WorldState) -> None:
        """As `Together.put`."""
        self.states[place] = state.clone()

    def get(self, place: int) -> WorldState:
        """As `Together.get`."""
        return self.states[place].clone()

    def frames(self) -> Tensor:
        """As `Together.frames`."""
        return torch.cat([state.last for state in self.states])
