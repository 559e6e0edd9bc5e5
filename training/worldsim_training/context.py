"""The context of training clips: the remembered frames, spoilt on purpose so that play survives its own mistakes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worldsim.models.dit import CausalDiT
from worldsim.sampler import add_noise
from worldsim_training.config import ContextConfig
from worldsim_training.dataset import Clip


@dataclass(frozen=True)
class Conditions:
    """What a packed pass is conditioned on: remembered frames, their noise level, actions and which are known."""

    context: Tensor
    """(B, T, C, H, W) in about [-1, 1]."""
    context_sigma: Tensor
    """(B, T)"""
    actions: Tensor
    """(B, T, A), the action that led into each frame."""
    known: Tensor
    """(B, T) bool"""

    def predict(self, network: CausalDiT, noisy: Tensor, sigma: Tensor) -> Tensor:
        """The network's clean frames (B, T, C, H, W) at (noisy, sigma) under these conditions."""
        return network.packed(noisy, sigma, self.context, self.context_sigma, self.actions, self.known)


def spoil(
    frames: Tensor, clip: Clip, network: CausalDiT, config: ContextConfig, generator: torch.Generator
) -> Conditions:
    """Conditions of a batch of clips. frames: (B, T, C, H, W) in [-1, 1], the clean frames of `clip`."""
    batch, length = frames.shape[:2]

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, device=frames.device, generator=generator)

    known = clip.known & (uniform(batch, length) >= config.action_dropout)
    context = frames
    if painted := round(config.painted_share * batch):
        one_step = _paint(frames[:painted], clip.actions[:painted], known[:painted], network, generator)
        context = torch.cat((one_step, frames[painted:]))
    sigma = config.noise_max * uniform(batch, 1) * (uniform(batch, 1) < config.noise_share)
    sigma = sigma.expand(batch, length).contiguous()
    eps = torch.randn(frames.shape, device=frames.device, generator=generator)
    return Conditions(add_noise(context, eps, sigma), sigma, clip.actions, known)


@torch.no_grad()
def _paint(frames: Tensor, actions: Tensor, known: Tensor, network: CausalDiT, generator: torch.Generator) -> Tensor:
    """Every frame as the network paints it in one step from the real frames before; the first stays real."""
    noise = torch.randn(frames.shape, device=frames.device, generator=generator)
    level = frames.new_ones(frames.shape[:2])
    painted = network.packed(noise, level, frames, torch.zeros_like(level), actions, known)
    return torch.cat((frames[:, :1], painted[:, 1:].clamp(-1.0, 1.0)), dim=1)
