"""Noise levels, the forward noising and the samplers that turn noise into a frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NOMINAL_STEPS = {1: (1.0,), 2: (1.0, 0.5), 4: (1.0, 0.75, 0.5, 0.25)}


def shifted(u: Tensor | float, shift: float) -> Tensor | float:
    """Noise level sigma = shift u / (1 + (shift - 1) u) of a uniform level u in [0, 1] (rectified flow, SD3 eq. 23)."""
    return shift * u / (1.0 + (shift - 1.0) * u)


def add_noise(x_0: Tensor, eps: Tensor, sigma: Tensor) -> Tensor:
    """x_sigma = (1 - sigma) x_0 + sigma eps. sigma in [0, 1], of the leading axes of x_0."""
    sigma = sigma.reshape(sigma.shape + (1,) * (x_0.dim() - sigma.dim())).to(x_0.dtype)
    return (1.0 - sigma) * x_0 + sigma * eps


def velocity(x_t: Tensor, x_0: Tensor, sigma: Tensor) -> Tensor:
    """v = (x_sigma - x_0) / sigma, which equals eps - x_0 on the true clean frame. sigma in (0, 1]."""
    return (x_t - x_0) / sigma.reshape(sigma.shape + (1,) * (x_t.dim() - sigma.dim()))


def euler_step(x_t: Tensor, x_0: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """One Euler step of the probability-flow ODE from sigma down to sigma_next, given the predicted clean frame."""
    ratio = (sigma_next / sigma).reshape(sigma.shape + (1,) * (x_t.dim() - sigma.dim()))
    return x_0 + ratio * (x_t - x_0)


def step_sigmas(steps: int, shift: float, *, single: float = 1.0) -> tuple[float, ...]:
    """Noise levels of the few-step student: the nominal list of 1, 2 or 4 steps, warped by `shift`.

    single: the level that the only call of one step is told, 1 (pure noise) or a little below. A network that answers
    its mean at pure noise, a good first guess but a blurred last word, answers a sample there.
    """
    if steps not in tuple(NOMINAL_STEPS):
        raise ValueError(f"steps={steps} is not a trained step count; use 1, 2 or 4")
    return (single,) if steps == 1 else tuple(shifted(u, shift) for u in NOMINAL_STEPS[steps])


def ode_grid(intervals: int, shift: float) -> Tensor:
    """(intervals + 1,) float64 noise levels from 1 down to 0, for the ODE sampler and consistency distillation."""
    return shifted(torch.linspace(1.0, 0.0, intervals + 1, dtype=torch.float64), shift)


Denoise = Callable[[Tensor, float], Tensor]
"""(x_t, sigma) -> predicted clean frame; the cache and the action are bound by the caller."""

Noise = Callable[[], Tensor]
"""Fresh unit Gaussian noise of the frame's shape, each world's from its own stream."""


@dataclass(frozen=True)
class FewStepSampler:
    """Consistency sampler: predict, noise again with fresh noise, repeat (arXiv 2303.01469, algorithm 1).

    An ODE walk through a consistency network inflates the variance; it is `OdeSampler`'s, for the many-step teacher.
    """

    sigmas: Sequence[float]
    kept_sigma: float = 0.0
    """Up to this level the last call leaves its keys and values as the frame's memory; see `WorldInfo.kept_sigma`."""

    @property
    def leave_at(self) -> float | None:
        """The level of the last call, where what it leaves is the memory; None where the frame is to be committed."""
        return self.sigmas[-1] if self.sigmas[-1] <= self.kept_sigma else None

    def __call__(self, denoise: Denoise, noise: Noise) -> Tensor:
        x_t = noise()
        for sigma, sigma_next in zip(self.sigmas, (*self.sigmas[1:], None), strict=True):
            x_0 = denoise(x_t, sigma)
            if sigma_next is not None:
                x_t = (1.0 - sigma_next) * x_0 + sigma_next * noise()
        return x_0


@dataclass(frozen=True)
class OdeSampler:
    """Euler sampler of the probability-flow ODE over a grid of noise levels from 1 to 0: the premium track."""

    sigmas: Sequence[float]

    def __call__(self, denoise: Denoise, noise: Noise) -> Tensor:
        x_t = noise()
        for sigma, sigma_next in zip(self.sigmas[:-1], self.sigmas[1:], strict=True):
            x_0 = denoise(x_t, sigma)
            x_t = x_0 + (sigma_next / sigma) * (x_t - x_0)
        return x_t
