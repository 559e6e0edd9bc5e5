"""Play in which each frame is committed together with the first denoising of the next one."""

from __future__ import annotations

import torch
from torch import Tensor

from worldsim.heads import before_of
from worldsim.rollout import commit_and_next_frame, leave_at, next_frame
from worldsim.sampler import FewStepSampler
from worldsim.world_model import Step, WorldModel, WorldState


class LateCommit:
    """B worlds in play, one pass over the network fewer a frame than with `WorldModel.step`, which sees the same.

    The frames are those of `WorldModel.step` up to rounding. It is for throughput: the picture of a frame waits for the
    commit of the last one, which `WorldModel.paint` and `commit` leave to the time after it was shown. Frames painted
    by two networks' calls of different shape differ in their last bits, so a session is played in one way or the other.
    Where the memory is what a frame's last call leaves, no pass can be saved and this is `WorldModel.step` itself.
    Changes the state it is given, which is whole only after `settle`.
    """

    def __init__(self, model: WorldModel, state: WorldState) -> None:
        self.model, self._state = model, state
        self._owed: tuple[Tensor, Tensor] | None = None
        """The last frame (B, C, H, W) in [-1, 1] and the action that led to it, while they are not committed."""

    @torch.no_grad()
    def step(self, action: Tensor, *, steps: int | None = None) -> Step:
        """The next frame under action (B, A), and what the heads read off it, as `WorldModel.step`."""
        model, state = self.model, self._state
        sampler = model.sampler(steps)
        if leave_at(sampler) is not None:  # nothing is left to be done late
            return model.step(self.settle(), action, steps=steps)
        model.check_action(state, action)
        action = model.sent(action.clone())  # kept until its commit, and the caller may fill his anew
        painted = self._painted(sampler, action)
        frame, sound = model.shown(painted, state.last)
        after = model.codec.encode(frame)
        reward, odds = model.reader.read(model.codec.encode(before_of(state.past)), after)
        self._owed = after, action
        state.show(frame)
        return Step(frame, *model.outcome(reward.masked_fill(~sound, torch.nan), odds, state.noise))

    @torch.no_grad()
    def settle(self) -> WorldState:
        """The state with the last frame committed: ready to be saved, copied or played in any other way."""
        if self._owed is not None:
            self.model.painter.commit(*self._owed, self._state.cache)
            self._owed = None
        return self._state

    def _painted(self, sampler: FewStepSampler, action: Tensor) -> Tensor:
        cache, painter = self._state.cache, self.model.painter
        shape = cache.previous.shape[1:]
        words = action, lambda: self._state.noise.draw(shape)
        if self._owed is None:
            return next_frame(painter, sampler, cache, *words)
        owed, self._owed = self._owed, None
        return commit_and_next_frame(painter, sampler, cache, *owed, *words)
