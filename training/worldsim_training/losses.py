"""The losses of training and distillation, as pure functions of tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from worldsim.sampler import add_noise, euler_step
from worldsim_training import processes


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


def consistency_target(x_n: Tensor, teacher_x_0: Tensor, sigma: Tensor, sigma_next: Tensor, answer) -> Tensor:
    """What the student must answer at x_n (causal consistency distillation, arXiv 2605.15141 §3).

    One Euler step with the teacher's clean frame leads to x_{n+1}; there the EMA target answers. answer: function
    (x_{n+1}, sigma_{n+1}) -> (B, T, C, H, W). In the terminal interval, sigma_{n+1} = 0, the Euler step's end is itself
    the target: the interval that released code leaves untrained.
    """
    x_next = euler_step(x_n, teacher_x_0, sigma, sigma_next)
    terminal = (sigma_next == 0).reshape(*sigma_next.shape, 1, 1, 1)
    return torch.where(terminal, x_next, answer(x_next, sigma_next))


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
