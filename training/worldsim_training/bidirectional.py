"""Stage 0, optional: a network that sees a whole clip at once, to score what the student paints or to begin from."""

from __future__ import annotations

import torch
from torch import Tensor

from worldsim.sampler import add_noise
from worldsim_training import draws
from worldsim_training.config import BidirectionalConfig
from worldsim_training.dataset import Clip
from worldsim_training.losses import clean_weight, frame_error, weighted_mean
from worldsim_training.teacher_forcing import TeacherForcing


class Bidirectional(TeacherForcing):
    """Flow matching as in teacher forcing, but with one noise level for a whole clip and no clean frame beside it.

    In `clean_start_share` of the clips the first frames are clean and the others alone are learnt: the network then
    continues a past that it can read at any noise level.
    """

    name = "bidirectional"
    config: BidirectionalConfig

    def loss(self, clip: Clip, generator: torch.Generator) -> Tensor:
        x_0 = self.codec.encode(clip.frames)
        shape = x_0.shape[:2]
        clean = self._clean_start(shape, generator)
        sigma = self._levels(x_0[:, :1], generator).expand(shape).masked_fill(clean, 0.0)
        eps = draws.normal(x_0.shape, generator)
        kept = draws.uniform(shape, generator) >= self.context.action_dropout
        noisy = add_noise(x_0, eps, sigma)
        predicted = self.student.bidirectional(noisy, sigma, clip.actions, clip.known & kept)
        weight = clean_weight(sigma, self.config.weight_floor).masked_fill(clean, 0.0)
        return weighted_mean(frame_error(predicted, x_0), weight)

    def _clean_start(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """Which frames (B, L) are given clean; never the last one of a clip."""
        clips, length = shape
        chosen = draws.uniform((clips,), generator) < self.config.clean_start_share
        count = 1 + (draws.uniform((clips,), generator) * (length - 1)).long()  # 1 .. length - 1
        place = torch.arange(length, device=count.device)
        return chosen[:, None] & (place < count[:, None]) & (place < length - 1)
