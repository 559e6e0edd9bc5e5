"""The context of training clips: the remembered frames, spoilt on purpose so that play survives its own mistakes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worldsim.models.dit import CausalDiT
from worldsim.sampler import FewStepSampler, add_noise
from worldsim_training import draws, processes
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

    known = clip.known & (draws.uniform((batch, length), generator) >= config.action_dropout)
    context = frames
    if painted := processes.first_clips(config.painted_share, batch, "world.context.painted_share"):
        sampler, dream = FewStepSampler(config.painted_sigmas), frames[:painted]
        rounds = torch.randint(config.painted_rounds, (), device=frames.device, generator=generator)
        for _ in range(1 + int(rounds)):
            dream = paint_clip(network, sampler, dream, clip.actions[:painted], known[:painted], generator)
        context = torch.cat((dream, frames[painted:]))
    level, is_noised = draws.uniform((batch, 1), generator), draws.uniform((batch, 1), generator) < config.noise_share
    sigma = config.noise_max * level * is_noised
    sigma = sigma.expand(batch, length).contiguous()
    eps = draws.normal(frames.shape, generator)
    return Conditions(add_noise(context, eps, sigma), sigma, clip.actions, known)


@torch.no_grad()
def paint_clip(
    painter: CausalDiT,
    sampler: FewStepSampler,
    frames: Tensor,
    actions: Tensor,
    known: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Every frame of frames (B, T, C, H, W) as painted from those before it, all at once; the first stays.

    From real frames that is one step ahead; painted again and again it nears a rollout, an n-th time from n steps of
    the network's own. actions: (B, T, A), known: (B, T) bool, as in `Clip`.
    """
    conditions = Conditions(frames, frames.new_zeros(frames.shape[:2]), actions, known)
    painted = sampler(
        lambda x, sigma: conditions.predict(painter, x, x.new_full(x.shape[:2], sigma)),
        lambda: draws.normal(frames.shape, generator),
    )
    # Before torch 2.11 autocast keeps the weights that it cast here, and they carry no gradient (PyTorch 112583).
    torch.clear_autocast_cache()
    return torch.cat((frames[:, :1], painted[:, 1:].clamp(-1.0, 1.0)), dim=1)
