"""Stage 2, causal consistency distillation: the network learns where its teacher's path ends, from any point on it."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from worldsim.models.dit import CausalDiT
from worldsim.sampler import ode_grid
from worldsim_training import draws
from worldsim_training.config import ConsistencyConfig, ContextConfig
from worldsim_training.context import spoil
from worldsim_training.dataset import Clip
from worldsim_training.distillation import Distillation
from worldsim_training.losses import SOLVERS, consistency_points, consistency_target, frame_error


class Consistency(Distillation):
    """Student, EMA target and frozen teacher all start from stage 1 (arXiv 2605.15141 §3)."""

    name = "consistency"

    def __init__(self, teacher: CausalDiT, config: ConsistencyConfig, context: ContextConfig) -> None:
        check(config)
        super().__init__(teacher, context)
        self.config = config
        self.grid = ode_grid(config.intervals, config.grid_shift)

    def loss(self, clip: Clip, generator: torch.Generator) -> Tensor:
        x_0 = self.codec.encode(clip.frames)
        conditions = spoil(x_0, clip, self.average, self.context, generator)
        index = self._points(x_0.shape[:2], generator)
        eps = draws.normal(x_0.shape, generator)
        x_n, sigma, sigma_next = consistency_points(x_0, eps, index, self.grid.to(x_0.device))
        with torch.no_grad():
            teacher, average = (partial(conditions.predict, network) for network in (self.teacher, self.average))
            teacher_x_0 = teacher(x_n, sigma)
            x_next = SOLVERS[self.config.solver](x_n, teacher_x_0, sigma, sigma_next, teacher)
            target = consistency_target(x_next, sigma_next, average)
            if self.config.mean_share:
                target = torch.where((index == 0)[..., None, None, None], teacher_x_0, target)
        predicted = conditions.predict(self.student, x_n, sigma)
        return frame_error(predicted, target)[:, 1:].mean()  # the first frame of a clip remembers nothing

    def _points(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """(B, T) intervals of the grid, uniform but for the share that is kept at pure noise."""
        index = draws.integers(self.config.intervals, shape, generator)
        if not self.config.mean_share:
            return index
        kept = draws.uniform(shape, generator) < self.config.mean_share
        return torch.where(kept, 0, index.clamp(min=1))


def check(config: ConsistencyConfig) -> None:
    """ValueError where a setting is not one that the stage can train with."""
    if config.solver not in SOLVERS:
        raise ValueError(f"world.consistency.solver is {config.solver!r}; use one of {', '.join(SOLVERS)}")
    if config.mean_share and config.intervals < 2:
        raise ValueError("world.consistency.intervals=1 has no level below pure noise; use 2 or more, or mean_share=0")
