"""Stage 0, optional: a network that sees a whole clip at once, to score what the student paints or to begin from."""

from __future__ import annotations

import torch
from torch import Tensor

from worldsim.sampler import add_noise
from worldsim_training import draws
from worldsim_training.dataset import Clip
from worldsim_training.losses import clean_weight, frame_error, weighted_mean
from worldsim_training.teacher_forcing import TeacherForcing


class Bidirectional(TeacherForcing):
    """Flow matching as in teacher forcing, but with one noise level for a whole clip and no clean frame beside it."""

    name = "bidirectional"

    def loss(self, clip: Clip, generator: torch.Generator) -> Tensor:
        x_0 = self.codec.encode(clip.frames)
        shape = x_0.shape[:2]
        sigma = self._levels(x_0[:, :1], generator).expand(shape)
        eps = draws.normal(x_0.shape, generator)
        kept = draws.uniform(shape, generator) >= self.context.action_dropout
        noisy = add_noise(x_0, eps, sigma)
        predicted = self.student.bidirectional(noisy, sigma, clip.actions, clip.known & kept)
        return weighted_mean(frame_error(predicted, x_0), clean_weight(sigma, self.config.weight_floor))
