"""The one autoregressive loop: paint a frame from memory, commit it, go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from worldsim.cache import KVCache
from worldsim.sampler import Denoise, Noise


class Denoiser(Protocol):
    """What a network must offer to be played: `forward` reads the cache, `commit` alone writes it."""

    def __call__(self, x_t: Tensor, sigma: Tensor, action: Tensor, cache: KVCache) -> Tensor: ...

    def commit(self, x_0: Tensor, action: Tensor | None, cache: KVCache) -> None: ...


Sampler = Callable[[Denoise, Noise], Tensor]


def next_frame(denoiser: Denoiser, sampler: Sampler, cache: KVCache, action: Tensor, noise: Noise) -> Tensor:
    """Paint the frame that `action` (B, A) leads to: (B, C, H, W) in [-1, 1]. Writes nothing to the cache."""

    def denoise(x_t: Tensor, sigma: float) -> Tensor:
        return denoiser(x_t, x_t.new_full((len(x_t),), float(sigma)), action, cache)

    return sampler(denoise, noise).clamp(-1.0, 1.0)


def rollout(denoiser: Denoiser, sampler: Sampler, cache: KVCache, actions: Tensor, noise: Noise) -> Tensor:
    """Imagine T frames under actions (B, T, A): (B, T, C, H, W) in [-1, 1]. Changes the cache."""
    frames = []
    for action in actions.unbind(1):
        frame = next_frame(denoiser, sampler, cache, action, noise)
        denoiser.commit(frame, action, cache)
        frames.append(frame)
    return torch.stack(frames, dim=1)


def remember(denoiser: Denoiser, cache: KVCache, frames: Tensor, actions: Tensor) -> None:
    """Change an empty cache: commit K given frames (B, K, C, H, W) and the K - 1 actions (B, K - 1, A) between them."""
    denoiser.commit(frames[:, 0], None, cache)
    for frame, action in zip(frames[:, 1:].unbind(1), actions.unbind(1), strict=True):
        denoiser.commit(frame, action, cache)
