"""Causal ODE distillation, another stage 2: the network learns where its teacher's path ends, from points on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from worldsim.models.dit import CausalDiT
from worldsim.sampler import NOMINAL_STEPS, euler_step, ode_grid, step_sigmas
from worldsim_training import draws
from worldsim_training.config import ContextConfig, OdeConfig
from worldsim_training.context import spoil
from worldsim_training.dataset import Clip
from worldsim_training.distillation import Distillation
from worldsim_training.losses import frame_error


class OdeDistillation(Distillation):
    """Student and frozen teacher start from stage 1 (arXiv 2602.02214). The paper stores its teacher's paths; here each
    update integrates fresh noise, unguided, all frames of its clips at once, and serves several points."""

    name = "ode"

    def __init__(
        self, teacher: CausalDiT, config: OdeConfig, context: ContextConfig, shift: float, single: float = 1.0
    ) -> None:
        """shift, single: of the step lists in play (`step_sigmas`), whose noise levels are all that it learns."""
        lists = (step_sigmas(steps, shift, single=single) for steps in NOMINAL_STEPS)
        self.levels = sorted({sigma for each in lists for sigma in each}, reverse=True)
        if not 1 <= config.points <= len(self.levels):
            raise ValueError(f"ode.points is {config.points}; the step lists have 1 to {len(self.levels)} noise levels")
        super().__init__(teacher, context)
        self.config = config
        self.grid = path_grid(config.intervals, config.grid_shift, self.levels)

    def loss(self, clip: Clip, generator: torch.Generator) -> Tensor:
        x_0 = self.codec.encode(clip.frames)
        conditions = spoil(x_0, clip, self.average, self.context, generator)
        eps = draws.normal(x_0.shape, generator)
        path, end = integrate(partial(conditions.predict, self.teacher), eps, self.grid, self.levels)
        draw = draws.uniform((len(path), *x_0.shape[:2]), generator, axis=1)
        points = draw.argsort(dim=0)[: self.config.points]  # each frame has its own, no two alike
        levels = torch.tensor(self.levels, device=x_0.device)
        errors = []
        for point in points:
            x = path.take_along_dim(point[None, ..., None, None, None], dim=0)[0]
            errors.append(frame_error(conditions.predict(self.student, x, levels[point]), end))
        return torch.stack(errors)[..., 1:].mean()  # the first frame of a clip remembers nothing


def path_grid(intervals: int, shift: float, levels: Sequence[float]) -> list[float]:
    """The solver's noise levels, from 1 down to 0: those of `ode_grid` and, exactly, each of `levels`."""
    grid = ode_grid(intervals, shift).tolist()
    return sorted((*levels, *(s for s in grid if min(abs(s - level) for level in levels) > 1e-9)), reverse=True)


@torch.no_grad()
def integrate(
    answer: Callable[[Tensor, Tensor], Tensor], eps: Tensor, grid: Sequence[float], kept: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Follow the probability flow from pure noise over the grid, by Euler steps.

    answer: (x (B, T, C, H, W), sigma (B, T)) -> clean frames; eps: (B, T, C, H, W), all frames side by side.
    Returns the states at the levels `kept`, falling as the grid does, (len(kept), B, T, C, H, W), and the end.
    """
    x, states = eps, []
    for level, level_next in pairwise(grid):
        if level in kept:
            states.append(x)
        sigma, sigma_next = (x.new_full(x.shape[:2], each) for each in (level, level_next))
        x = euler_step(x, answer(x, sigma), sigma, sigma_next)
    return torch.stack(states), x
