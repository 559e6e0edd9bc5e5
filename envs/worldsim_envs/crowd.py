"""N worlds of one model in play: painted together as one batch, or in turn.

Both offer the same: `step` all worlds, `put` a world into a place, `get` a copy of one, and the frames now on screen.

An exception that one world provokes is a fault of that world: the others go on as if it had not been. It is found by
painting again without the suspects, so it may come from the network, the codec or the heads, but not out of the midst
of a commit's writes; ours write last, when nothing can fail any more. Where every world fails, the exception is raised.
A network call that hangs, a crash of the process and an error that leaves the GPU unusable end all worlds; only a
process for each would help, which a batch cannot have.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from worldsim.world_model import Step, WorldModel, WorldState
from worldsim_envs.faults import describe

Faults = dict[int, str]
"""What went wrong, by place."""


class Together:
    """Worlds that the network paints in one call. states: one world each."""

    def __init__(self, model: WorldModel, states: Sequence[WorldState]) -> None:
        self.model = model
        self.state = WorldState.join(states)

    def step(self, vectors: Tensor, **settings) -> tuple[Step, Faults]:
        """Change all worlds by one frame under channel vectors (N, A) float32; a world with a fault stays as it was.

        Its frame is the last one, its reward NaN. settings: those of `WorldModel.step`.
        """
        noise = self.state.noise.clone()
        try:
            return self.model.step(self.state, vectors, **settings), {}
        except Exception as error:
            self.state.noise = noise
            return self._step_apart(vectors, error, settings)

    def put(self, place: int, state: WorldState) -> None:
        """Change one world into a copy of the one world of `state`."""
        self.state.put([place], state)

    def get(self, place: int) -> WorldState:
        """An independent copy of one world."""
        return self.state.select([place])

    def frames(self) -> Tensor:
        """(N, 3, H, W) uint8, the frames now on screen; a copy."""
        return self.state.last.clone()

    def _step_apart(self, vectors: Tensor, error: Exception, settings: dict) -> tuple[Step, Faults]:
        """`step` after it has failed: ever smaller groups, until each has been painted or is one world at fault."""
        done, faults = _unpainted(self.state, settings), {}
        groups = [list(range(len(vectors)))]
        if len(vectors) == 1:
            raise error
        while groups:
            group = groups.pop()
            try:
                self._step_group(group, vectors, settings, done)
            except Exception as cause:
                half = len(group) // 2
                if half:
                    groups += [group[half:], group[:half]]
                else:
                    faults[group[0]] = describe(cause)
        if len(faults) == len(vectors):
            raise error
        self.state.step_count += 1
        return done, faults

    def _step_group(self, group: list[int], vectors: Tensor, settings: dict, done: Step) -> None:
        """Change these worlds and their rows of `done`. Copies of the first stand in for the others, so that the batch
        keeps its shape, on which the last bits of a frame depend."""
        places = [place if place in group else group[0] for place in range(len(vectors))]
        trial = self.state.select(places)
        outcome = self.model.step(trial, vectors[places], **settings)
        self.state.put(group, trial.select(group))
        for name, rows in _tensors(done).items():
            rows[group] = getattr(outcome, name)[group]


class InTurn:
    """Worlds that the network paints one after another, each in a batch of one, as a single environment does."""

    def __init__(self, model: WorldModel, states: Sequence[WorldState]) -> None:
        self.model = model
        self.states = [state.clone() for state in states]

    def step(self, vectors: Tensor, **settings) -> tuple[Step, Faults]:
        """As `Together.step`."""
        done, errors = [], {}
        for place, (state, vector) in enumerate(zip(self.states, vectors.split(1), strict=True)):
            noise = state.noise.clone()
            try:
                done.append(self.model.step(state, vector, **settings))
            except Exception as error:
                state.noise = noise
                errors[place] = error
                done.append(_unpainted(state, settings))
        if len(errors) == len(done):
            raise errors[0]
        joined = {name: torch.cat([getattr(each, name) for each in done]) for name in _tensors(done[0])}
        return Step(**joined), {place: describe(each) for place, each in errors.items()}

    def put(self, place: int, state: WorldState) -> None:
        """As `Together.put`."""
        self.states[place] = state.clone()

    def get(self, place: int) -> WorldState:
        """As `Together.get`."""
        return self.states[place].clone()

    def frames(self) -> Tensor:
        """As `Together.frames`."""
        return torch.cat([state.last for state in self.states])


def _unpainted(state: WorldState, settings: dict) -> Step:
    """The step of worlds that none has painted: the frame stays, reward and doubt are NaN."""
    ended = torch.zeros(len(state.last), dtype=torch.bool, device=state.last.device)
    nothing = torch.full(ended.shape, torch.nan, device=ended.device)
    return Step(state.last.clone(), nothing, ended, nothing.clone() if settings.get("doubt") else None)


def _tensors(step: Step) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in vars(step).items() if tensor is not None}
