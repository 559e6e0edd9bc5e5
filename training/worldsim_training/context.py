"""The context of training clips: the remembered frames, spoilt on purpose so that play survives its own mistakes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from worldsim.models.dit import CausalDiT
from worldsim.sampler import FewStepSampler, add_noise
from worldsim_training import draws
from worldsim_training.config import ContextConfig
from worldsim_training.dataset import Clip

SATURATION, CONTRAST = 1.4, 1.12
"""Most that a drifted clip's distances from grey, and from the middle, are multiplied or divided by."""
TINT = 0.08
"""Most that is added to a drifted clip's red, green or blue: 10 of 255 levels."""


@dataclass(frozen=True)
class Kept:
    """What the calls were given that wrote a clip's memory."""

    handed: Tensor
    """(B, T, C, H, W) frames as the calls were handed them that left their memory; where they were committed, clean."""
    sigma: Tensor
    """(B, T) their noise levels."""


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
    kept: Kept | None = None
    """What wrote the memory, where the context did not write all of it."""

    def predict(self, network: CausalDiT, noisy: Tensor, sigma: Tensor) -> Tensor:
        """The network's clean frames (B, T, C, H, W) at (noisy, sigma) under these conditions."""
        kept = {"kept": (self.kept.handed, self.kept.sigma)} if self.kept else {}
        return network.packed(noisy, sigma, self.context, self.context_sigma, self.actions, self.known, **kept)


def spoil(
    frames: Tensor, clip: Clip, network: CausalDiT, config: ContextConfig, generator: torch.Generator
) -> Conditions:
    """Conditions of a batch of clips. frames: (B, T, C, H, W) in [-1, 1], the clean frames of `clip`."""
    batch, length = frames.shape[:2]

    known = clip.known & (draws.uniform((batch, length), generator) >= config.action_dropout)
    painted = draws.part(config.painted_share, batch, generator)
    context = drifted(frames, config.drifted_share, generator) if config.drifted_share else frames
    handed, levels = context, None
    if config.kept_share:
        levels = _kept_levels(config, batch, length, painted, generator)
        handed = add_noise(context, draws.normal(frames.shape, generator), levels)
    if painted:
        sampler, dream, left = FewStepSampler(config.painted_sigmas), context[:painted], handed[:painted]
        rounds = torch.randint(config.painted_rounds, (), device=frames.device, generator=generator)
        for _ in range(1 + int(rounds)):
            kept = None if levels is None else Kept(left, levels[:painted])
            clean = frames.new_zeros(painted, length)
            given = Conditions(dream, clean, clip.actions[:painted], known[:painted], kept)
            dream, left = paint(network, sampler, given, generator)
        context = torch.cat((dream, context[painted:]))
        handed = context if levels is None else torch.cat((left, handed[painted:]))
    level, is_noised = draws.uniform((batch, 1), generator), draws.uniform((batch, 1), generator) < config.noise_share
    sigma = config.noise_max * level * is_noised
    sigma = sigma.expand(batch, length).contiguous()
    eps = draws.normal(frames.shape, generator)
    context = add_noise(context, eps, sigma)
    kept = None
    if levels is not None:
        is_kept = levels > 0
        kept = Kept(_where(is_kept, handed, context), torch.where(is_kept, levels, sigma))
    return Conditions(context, sigma, clip.actions, known, kept)


def drifted(frames: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """frames (B, T, C, H, W) in [-1, 1], of which a share of the clips looks as play may look after long, each by
    its own saturation, contrast, tint and sharpness, the same in all of its frames."""
    batch, channels = frames.shape[0], frames.shape[2]
    is_drifted = draws.uniform((batch, 1), generator) < share
    draw = 2.0 * draws.uniform((batch, 3), generator) - 1.0
    tint = TINT * (2.0 * draws.uniform((batch, channels), generator) - 1.0)
    saturation, contrast, blur = (each[:, None, None, None, None] for each in draw.unbind(1))
    grey = frames.mean(2, keepdim=True)
    seen = grey + (frames - grey) * SATURATION**saturation
    seen = seen * CONTRAST**contrast + tint[:, None, :, None, None]
    padded = F.pad(seen.flatten(0, 1), (1, 1, 1, 1), mode="replicate")
    softer = F.avg_pool2d(F.avg_pool2d(padded, 2, stride=1), 2, stride=1).view_as(seen)
    # Up to a whole blur, but only half of one taken away: what long play paints is oftener too soft than too hard.
    seen = seen + (softer - seen) * torch.where(blur > 0, blur, 0.5 * blur)
    return _where(is_drifted.expand(frames.shape[:2]), seen.clamp(-1.0, 1.0), frames)


def _kept_levels(config: ContextConfig, batch: int, length: int, painted: int, generator: torch.Generator) -> Tensor:
    """(B, T) noise levels of the calls that are kept, 0 for frames that are committed. A clip is kept with probability
    `kept_share`, from its first frame on in half of the cases, else from any."""
    draw = draws.uniform((4, batch, 1), generator, axis=1)
    low, high = config.kept_sigmas
    level = low + (high - low) * draw[0]
    level[:painted] = config.painted_sigmas[-1]
    start = torch.where(draw[1] < 0.5, 0, (draw[2] * length).long())
    frame = torch.arange(length, device=level.device)
    return torch.where((draw[3] < config.kept_share) & (frame >= start), level, 0.0)


def _where(mask: Tensor, frames: Tensor, others: Tensor) -> Tensor:
    """Of two (B, T, C, H, W), the first where the mask (B, T) says so."""
    return torch.where(mask[..., None, None, None], frames, others)


@torch.no_grad()
def paint(
    painter: CausalDiT, sampler: FewStepSampler, given: Conditions, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Every frame of a clip as painted from those before it, all at once, and what left its memory: where the last call
    is kept, what that was handed, elsewhere the painted frame itself. The first frame and what it left stay."""
    frames = given.context
    handed = frames

    def denoise(x: Tensor, sigma: float) -> Tensor:
        nonlocal handed
        handed = x
        return given.predict(painter, x, x.new_full(x.shape[:2], sigma))

    painted = sampler(denoise, lambda: draws.normal(frames.shape, generator))
    # Before torch 2.11 autocast keeps the weights that it cast here, and they carry no gradient (PyTorch 112583).
    torch.clear_autocast_cache()
    painted = torch.cat((frames[:, :1], painted[:, 1:].clamp(-1.0, 1.0)), dim=1)
    if given.kept is None:
        return painted, painted
    left = _where(given.kept.sigma > 0, handed, painted)
    return painted, torch.cat((given.kept.handed[:, :1], left[:, 1:]), dim=1)


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
    return paint(painter, sampler, Conditions(frames, frames.new_zeros(frames.shape[:2]), actions, known), generator)[0]
