"""A world of Gaussian numbers, in which all that diffusion and distillation ask for is known in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """Clean data N(mean, std^2) under rectified flow, x_sigma = (1 - sigma) x_0 + sigma eps.

    `sigma` is a number or a tensor of the leading axes of x; mean and std are numbers or tensors of the shape of x.
    """

    mean: Tensor | float
    std: Tensor | float

    def velocity(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """v = dx/dsigma of the probability flow: E[eps - x_0 | x_sigma = x]."""
        level, variance = self._noisy(x, sigma)
        centred = x - (1 - level) * self.mean
        return (level - (1 - level) * self.std**2) * centred / variance - self.mean

    def clean_frame(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """E[x_0 | x_sigma = x], the answer of a perfect teacher."""
        level, variance = self._noisy(x, sigma)
        return self.mean + (1 - level) * self.std**2 * (x - (1 - level) * self.mean) / variance

    def flow_map(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Where the probability flow takes x, from level sigma to 0: the answer of a perfect student."""
        level, variance = self._noisy(x, sigma)
        return self.mean + self.std * (x - (1 - level) * self.mean) / variance**0.5

    def _noisy(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Tensor]:
        """sigma with the axes of x, and the variance of x_sigma."""
        level = torch.as_tensor(sigma, dtype=x.dtype)
        level = level.reshape(level.shape + (1,) * (x.dim() - level.dim()))
        return level, (1 - level) ** 2 * self.std**2 + level**2


@dataclass(frozen=True)
class GaussianWorld:
    """Frames follow x' = rho x + beta a + std eps, each number of a frame on its own."""

    rho: float
    beta: float
    std: float

    def after(self, frame: Tensor, action: Tensor) -> Gaussian:
        """What comes after a frame under an action, both of the frame's shape or broadcast to it."""
        return Gaussian(self.rho * frame + self.beta * action, self.std)

    def play(self, start: Tensor, actions: Tensor, generator: torch.Generator) -> Tensor:
        """Frames (B, T, ...) that follow `start` (B, ...) under actions (B, T), one for all numbers of a frame."""
        frames, frame = [], start
        for action in actions.unbind(1):
            following = self.after(frame, action.reshape(-1, *(1,) * (frame.dim() - 1)))
            eps = torch.randn(frame.shape, generator=generator, dtype=frame.dtype)
            frame = following.mean + following.std * eps
            frames.append(frame)
        return torch.stack(frames, dim=1)

    def moments(self, start: float, actions: Tensor) -> tuple[float, float]:
        """Mean and variance of the last of the frames that follow a given frame under actions (T,)."""
        mean, variance = start, 0.0
        for action in actions.tolist():
            mean, variance = self.rho * mean + self.beta * action, self.rho**2 * variance + self.std**2
        return mean, variance
