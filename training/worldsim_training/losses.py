"""The losses of training and distillation, as pure functions of tensors."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from worldsim.sampler import add_noise, euler_step, velocity
from worldsim_training import processes

Answer = Callable[[Tensor, Tensor], Tensor]
"""(x (B, T, C, H, W), sigma (B, T)) -> predicted clean frames (B, T, C, H, W)."""

Solver = Callable[[Tensor, Tensor, Tensor, Tensor, Answer], Tensor]
"""(x_n, the teacher's answer there, sigma_n, sigma_{n+1}, the teacher) -> x_{n+1}."""


def clean_weight(sigma: Tensor, floor: float) -> Tensor:
    """Weight (floor / max(sigma, floor))^2 of a clean-frame error at noise level sigma, in (0, 1].

    The velocity loss of rectified flow weighs clean frames by 1/sigma^2 (v - v* = (x_0 - x_0_hat)/sigma); the floor
    caps it. Pure noise, where few-step generation starts, keeps the weight floor^2; published settings give it none.
    """
    return (floor / sigma.clamp(min=floor)) ** 2


def frame_error(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error per frame: (B, T, C, H, W) x 2 -> (B, T)."""
    return (predicted.float() - target.float()).square().mean(dim=(-3, -2, -1))


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Sum of weight * values over sum of weight; both (B, T).

    Where several processes have a part of the batch each, the mean of what they answer is that of the whole batch.
    """
    return (values * weight).sum() / processes.mean(weight.sum())


def consistency_points(x_0: Tensor, eps: Tensor, index: Tensor, grid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where the student stands on the probability-flow path: x_n (B, T, C, H, W), sigma_n and sigma_{n+1} (B, T).

    index: (B, T) integers n in 0 .. N-1 into grid (N+1,), which falls from 1 to 0.
    """
    sigma, sigma_next = grid[index].to(x_0.dtype), grid[index + 1].to(x_0.dtype)
    return add_noise(x_0, eps, sigma), sigma, sigma_next


def heun_step(x_t: Tensor, x_0: Tensor, sigma: Tensor, sigma_next: Tensor, answer: Answer) -> Tensor:
    """Heun's step of the probability flow from sigma down to sigma_next, both (B, T): the mean slope of both ends.

    x_0: what `answer` gives at (x_t, sigma). Where sigma_next is 0 it is Euler's, since no network is trained there.
    """
    end, is_last = euler_step(x_t, x_0, sigma, sigma_next), _per_frame(sigma_next == 0)
    there = torch.where(sigma_next == 0, sigma, sigma_next)
    slope = (velocity(x_t, x_0, sigma) + velocity(end, answer(end, there), there)) / 2
    return torch.where(is_last, end, x_t + _per_frame(sigma_next - sigma) * slope)


SOLVERS: dict[str, Solver] = {
    "euler": lambda x_t, x_0, sigma, sigma_next, answer: euler_step(x_t, x_0, sigma, sigma_next),
    "heun": heun_step,
}
"""The steps by which a teacher leads from x_n to x_{n+1}."""


def consistency_target(x_next: Tensor, sigma_next: Tensor, answer: Answer) -> Tensor:
    """What the student must answer at x_n (causal consistency distillation, arXiv 2605.15141 §3).

    x_next: where one step of the teacher's solver leads from x_n; there the EMA target answers. In the terminal
    interval, sigma_{n+1} = 0, that end is itself the target: the interval that released code leaves untrained.
    """
    return torch.where(_per_frame(sigma_next == 0), x_next, answer(x_next, sigma_next))


def guided(conditional: Tensor, unconditional: Tensor, w: float) -> Tensor:
    """Guidance u + w (c - u); w = 1 is none (arXiv 2207.12598 calls it w - 1).

    Papers that write c + extra (c - u) mean w = 1 + extra: here `w` is the only reading. The same for clean frames as
    for velocities, since either is linear in the other.
    """
    return unconditional + w * (conditional - unconditional)


def matching_gradient(x: Tensor, critic_x_0: Tensor, teacher_x_0: Tensor) -> Tensor:
    """Where to move x (B, ...) away from, float64: (x_critic - x_teacher) / mean |x - x_teacher| of each clip.

    DMD, arXiv 2311.18828 eq. 7 and 8. Not finite where an argument is not, or where x is the teacher's answer all over.
    """
    x, critic_x_0, teacher_x_0 = (each.detach().double() for each in (x, critic_x_0, teacher_x_0))
    scale = (x - teacher_x_0).abs().flatten(1).mean(dim=1)
    return (critic_x_0 - teacher_x_0) / scale.reshape(-1, *(1,) * (x.dim() - 1))


def matching_loss(x: Tensor, gradient: Tensor) -> Tensor:
    """1/2 mean (x - sg(x - g))^2 in float64, whose slope in x is g / numel (arXiv 2405.14867, appendix)."""
    x = x.double()
    return 0.5 * (x - (x - gradient).detach()).square().mean()


def _per_frame(values: Tensor) -> Tensor:
    """(B, T) -> (B, T, 1, 1, 1)"""
    return values[..., None, None, None]
