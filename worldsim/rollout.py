"""The one autoregressive loop: paint a frame from memory, commit it, go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from worldsim.cache import KVCache
from worldsim.sampler import Denoise, FewStepSampler, Noise


class Denoiser(Protocol):
    """What a network must offer to be played: a call reads the cache, `commit` writes it. Where a sampler's last call
    is the memory, calls take `leave` as well, and `keep` writes it; see `worldsim.models.dit.CausalDiT`."""

    def __call__(self, x_t: Tensor, sigma: Tensor, action: Tensor, cache: KVCache) -> Tensor: ...

    def commit(self, x_0: Tensor, action: Tensor | None, cache: KVCache) -> None: ...


@runtime_checkable
class LevelDenoiser(Denoiser, Protocol):
    """A network that also takes the level as a number, one for all worlds: nothing has to come back from a GPU."""

    def at_level(self, x_t: Tensor, sigma: float, action: Tensor, cache: KVCache, *, leave: bool = False) -> Tensor: ...


@runtime_checkable
class AdvancingDenoiser(Denoiser, Protocol):
    """A network that also commits one frame and denoises the next in one pass."""

    def advance(
        self, x_0: Tensor, action_0: Tensor, x_t: Tensor, sigma: float, action: Tensor, cache: KVCache
    ) -> Tensor: ...


Sampler = Callable[[Denoise, Noise], Tensor]


def leave_at(sampler: Sampler) -> float | None:
    """The level of the sampler's call whose keys and values are a frame's memory; None where frames are committed."""
    return sampler.leave_at if isinstance(sampler, FewStepSampler) else None


def next_frame(denoiser: Denoiser, sampler: Sampler, cache: KVCache, action: Tensor, noise: Noise) -> Tensor:
    """Paint the frame that `action` (B, A) leads to: (B, C, H, W) in [-1, 1]. Writes nothing to the memory; what the
    sampler's last call leaves there for `keep`, if it does, changes."""
    leaves = leave_at(sampler)

    def denoise(x_t: Tensor, sigma: float) -> Tensor:
        return at_level(denoiser, x_t, float(sigma), action, cache, leave=sigma == leaves)

    return sampler(denoise, noise).clamp(-1.0, 1.0)


def commit_and_next_frame(
    denoiser: Denoiser, sampler: Sampler, cache: KVCache, x_0: Tensor, action_0: Tensor, action: Tensor, noise: Noise
) -> Tensor:
    """`commit` of x_0, which action_0 led to, and then `next_frame`, whose first call does both in one pass and whose
    last leaves nothing. Changes the cache."""
    first = True

    def denoise(x_t: Tensor, sigma: float) -> Tensor:
        nonlocal first
        if first:
            first = False
            return advance(denoiser, x_0, action_0, x_t, float(sigma), action, cache)
        return at_level(denoiser, x_t, float(sigma), action, cache)

    return sampler(denoise, noise).clamp(-1.0, 1.0)


def advance(
    denoiser: Denoiser, x_0: Tensor, action_0: Tensor, x_t: Tensor, sigma: float, action: Tensor, cache: KVCache
) -> Tensor:
    """Change the cache by a commit of x_0, and answer the clean frame from x_t at the level sigma, after it."""
    if isinstance(denoiser, AdvancingDenoiser):
        return denoiser.advance(x_0, action_0, x_t, sigma, action, cache)
    denoiser.commit(x_0, action_0, cache)
    return at_level(denoiser, x_t, sigma, action, cache)


def at_level(
    denoiser: Denoiser, x_t: Tensor, sigma: float, action: Tensor, cache: KVCache, *, leave: bool = False
) -> Tensor:
    """The denoiser's clean frame (B, C, H, W) from noisy ones that are all at the level sigma in [0, 1]; `leave` as in
    `CausalDiT.forward`."""
    asked = {"leave": True} if leave else {}
    if isinstance(denoiser, LevelDenoiser):
        return denoiser.at_level(x_t, sigma, action, cache, **asked)
    return denoiser(x_t, x_t.new_full((len(x_t),), sigma), action, cache, **asked)


def rollout(denoiser: Denoiser, sampler: Sampler, cache: KVCache, actions: Tensor, noise: Noise) -> Tensor:
    """Imagine T frames under actions (B, T, A): (B, T, C, H, W) in [-1, 1]. Changes the cache."""
    frames, keeps = [], leave_at(sampler) is not None
    for action in actions.unbind(1):
        frame = next_frame(denoiser, sampler, cache, action, noise)
        if keeps:
            denoiser.keep(frame, cache)
        else:
            denoiser.commit(frame, action, cache)
        frames.append(frame)
    return torch.stack(frames, dim=1)


def remember(denoiser: Denoiser, cache: KVCache, frames: Tensor, actions: Tensor) -> None:
    """Change an empty cache: commit K given frames (B, K, C, H, W) and the K - 1 actions (B, K - 1, A) between them."""
    denoiser.commit(frames[:, 0], None, cache)
    for frame, action in zip(frames[:, 1:].unbind(1), actions.unbind(1), strict=True):
        denoiser.commit(frame, action, cache)
