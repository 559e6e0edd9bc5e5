"""Stage 1, teacher forcing: the network learns every next frame of a clip at once, each from real frames before it."""

from __future__ import annotations

import torch
from torch import Tensor

from worldsim.codec import PixelCodec
from worldsim.models.dit import CausalDiT
from worldsim.sampler import add_noise, shifted
from worldsim_training import draws
from worldsim_training.config import ContextConfig, TeacherForcingConfig
from worldsim_training.context import spoil
from worldsim_training.dataset import Clip
from worldsim_training.loop import average_of
from worldsim_training.losses import clean_weight, frame_error, weighted_mean


class TeacherForcing:
    """Flow matching with clean, lightly spoilt context (stage 1 of arXiv 2605.15141), predicting clean frames."""

    name = "teacher_forcing"

    def __init__(self, network: CausalDiT, config: TeacherForcingConfig, context: ContextConfig) -> None:
        self.student = network
        self.average = average_of(network)
        self.config = config
        self.context = context
        self.codec = PixelCodec()

    def loss(self, clip: Clip, generator: torch.Generator) -> Tensor:
        x_0 = self.codec.encode(clip.frames)
        conditions = spoil(x_0, clip, self.student, self.context, generator)
        sigma = self._levels(x_0, generator)
        eps = draws.normal(x_0.shape, generator)
        predicted = conditions.predict(self.student, add_noise(x_0, eps, sigma), sigma)
        error, weight = frame_error(predicted, x_0), clean_weight(sigma, self.config.weight_floor)
        return weighted_mean(error[:, 1:], weight[:, 1:])  # the first frame of a clip remembers nothing

    def _levels(self, x_0: Tensor, generator: torch.Generator) -> Tensor:
        u = draws.uniform((2, *x_0.shape[:2]), generator, axis=1)
        return torch.where(u[0] < self.config.pure_noise, 1.0, shifted(u[1], self.config.shift))
