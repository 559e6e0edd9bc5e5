"""The save state of one environment: its world and where its episode stands."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from worldsim.world_model import WorldModel, WorldState


@dataclass(frozen=True)
class SaveState:
    """Everything that an environment goes on from; what it holds never changes."""

    world: WorldState = field(repr=False)
    """One world."""
    checkpoint: str
    """Fingerprint of the weights it was played with."""
    rng: dict[str, Any] = field(repr=False)
    """State of the generator that draws the starts of later episodes."""
    step: int
    """Frames since the episode began."""
    steps: int
    """Denoising steps a frame, in this episode."""
    start: int
    over: bool
    """Whether the episode has ended."""
    conditions: dict[str, str] = field(default_factory=dict)
    """Group -> value of the conditions that hold."""

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, whose header holds the rest as JSON."""
        facts = {name: value for name, value in vars(self).items() if name not in ("world", "checkpoint")}
        self.world.save(path, checkpoint=self.checkpoint, facts=facts)

    @classmethod
    def load(cls, path: str | Path) -> SaveState:
        """What `save` wrote. ValueError or FileNotFoundError in one line for any other file."""
        from worldsim.world_state import WorldState

        world, checkpoint, facts = WorldState.load(path)
        try:
            state = cls(world, checkpoint, **facts)
            generator(state.rng)
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(f"'{path}' is no environment's state ({error}); save the state again") from None
        return state

    def check(self, model: WorldModel) -> None:
        """ValueError in one line unless this is a state of one world of that model."""
        from worldsim.world_state import check_same_form

        if self.checkpoint != model.fingerprint:
            seen, here = (mark[:12] or "(never saved)" for mark in (self.checkpoint, model.fingerprint))
            raise ValueError(f"this state is of checkpoint {seen}, this world is {here}; load it in the world it is of")
        check_same_form(self.world, model.empty_state())


def checked(state: Any, model: WorldModel) -> SaveState:
    """A state, or the file it was saved in, as a state of that model; one-line errors otherwise."""
    if isinstance(state, str | Path):
        state = SaveState.load(state)
    if not isinstance(state, SaveState):
        raise TypeError(f"a state is of type {type(state).__name__}; give what save_state() returned, or its file")
    state.check(model)
    return state


def generator(state: dict[str, Any]) -> np.random.Generator:
    """A generator that goes on from the state of another's `bit_generator`."""
    rng = np.random.Generator(np.random.PCG64())
    rng.bit_generator.state = copy.deepcopy(state)
    return rng
