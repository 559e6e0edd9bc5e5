"""The outcome stage: the reward and episode-end head learns on real transitions and on what the student paints."""

from __future__ import annotations

import torch
from torch import Tensor

from worldsim.codec import PixelCodec
from worldsim.heads import OutcomeHead, before_of, outcome_loss
from worldsim.models.dit import CausalDiT
from worldsim.sampler import FewStepSampler
from worldsim_training import draws
from worldsim_training.context import paint_clip
from worldsim_training.dataset import Clip
from worldsim_training.loop import average_of


class Outcomes:
    """Cross-entropy on each transition of a clip, shown as real, as painted from real, or as painted twice in a row.

    Without a painter all are shown as real. A head with a lag learns from those transitions of which the clip shows the
    frame so long before.
    """

    name = "outcomes"

    def __init__(self, head: OutcomeHead, painter: CausalDiT | None, sampler: FewStepSampler) -> None:
        self.student = head
        self.average = average_of(head)
        self.painter = painter.eval().requires_grad_(False) if painter else None
        self.sampler = sampler
        self.codec = PixelCodec()

    def loss(self, clip: Clip, generator: torch.Generator) -> Tensor:
        real = self.codec.encode(clip.frames)
        before, after = self._shown(real, clip, generator) if self.painter else (real[:, :-1], real[:, 1:])
        values, lag = torch.tensor(self.student.config.rewards, device=real.device), self.student.config.lag
        count = before.shape[1] - lag + 1
        past = torch.stack([before[:, at : at + count] for at in sorted({0, lag - 1})], dim=2).flatten(0, 1)
        rewards, ended = clip.rewards[:, lag:].flatten(), clip.ended[:, lag:].flatten()
        told = self.student(before_of(past), after[:, lag - 1 :].flatten(0, 1))
        return outcome_loss(*told, rewards, ended, values)

    def _shown(self, real: Tensor, clip: Clip, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The frames (B, T - 1, C, H, W) before and after each step, a third of each kind."""
        painted = paint_clip(self.painter, self.sampler, real, clip.actions, clip.known, generator)
        shown = draws.integers(3, (*real.shape[:2], 1, 1, 1), generator)[:, 1:]
        before = torch.where(shown == 2, painted[:, :-1], real[:, :-1])
        return before, torch.where(shown == 0, real[:, 1:], painted[:, 1:])
