"""`worldsim.models.dit.CausalDiT` as one would first write its play: what the engine's gain is measured against.

In single precision, keys and values grow by concatenation, every key is rotated at every call, modulations are worked
out at every call.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from worldsim.cache import KVCache, rotary_table, rotate
from worldsim.models.dit import CausalDiT


class ConcatenatingDiT:
    """The same answers as the plain network up to rounding, slowly; its caches serve no other network."""

    def __init__(self, plain: CausalDiT) -> None:
        self.plain = plain

    def new_cache(self, worlds: int) -> KVCache:
        """A memory without frames: its keys and values have no slot yet."""
        cache = self.plain.new_cache(worlds)
        cache.keys, cache.values = ([each[..., :0, :] for each in group] for group in (cache.keys, cache.values))
        return cache

    @torch.no_grad()
    def __call__(self, x_t: Tensor, sigma: Tensor, action: Tensor, cache: KVCache, *, leave: bool = False) -> Tensor:
        """As `CausalDiT.forward`."""
        plain, known = self.plain, torch.ones(len(action), dtype=torch.bool, device=action.device)
        noise = plain._embed_noise(sigma[:, None], torch.zeros_like(sigma)[:, None])
        tokens, skips = plain._enter(x_t[:, None], cache.previous[:, None], noise)
        attend = ConcatenatingAttention(cache)
        tokens = plain._think(tokens, noise, plain._embed_action(action, known)[:, None], attend)
        if leave:
            for layer, new in enumerate(zip(attend.keys, attend.values, strict=True)):
                cache.leave(layer, *(each[..., -1:, :] for each in new))
        return plain._leave(tokens, skips, noise)[:, 0]

    @torch.no_grad()
    def keep(self, x_0: Tensor, cache: KVCache) -> None:
        """As `CausalDiT.keep`; changes the cache's buffers as `commit` does."""
        attend = ConcatenatingAttention(cache)
        for layer in range(len(cache.pending)):
            attend.join(layer, *cache.pending_of(layer))
        self._remember(attend, cache)
        cache.advance(x_0)

    @torch.no_grad()
    def commit(self, x_0: Tensor, action: Tensor | None, cache: KVCache) -> None:
        """As `CausalDiT.commit`; changes the cache's buffers into longer ones, up to the window."""
        plain, known = self.plain, torch.full((len(x_0),), action is not None, device=x_0.device)
        action = x_0.new_zeros(len(x_0), plain.config.action_size) if action is None else action
        clean = x_0.new_zeros(len(x_0), 1)
        noise = plain._embed_noise(clean, clean)
        tokens, _ = plain._enter(x_0[:, None], cache.previous[:, None], noise)
        attend = ConcatenatingAttention(cache)
        plain._think(tokens, noise, plain._embed_action(action, known)[:, None], attend)
        self._remember(attend, cache)
        cache.advance(x_0)

    def _remember(self, attend: ConcatenatingAttention, cache: KVCache) -> None:
        window = self.plain.config.window
        cache.keys[:] = [key[..., -window:, :].clone() for key in attend.keys]
        cache.values[:] = [value[..., -window:, :].clone() for value in attend.values]


class ConcatenatingAttention:
    """Temporal attention over memory and present, joined and rotated at every call; keeps what it joined."""

    def __init__(self, cache: KVCache) -> None:
        self.cache = cache
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def join(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of memory and present."""
        keys = torch.cat((self.cache.keys[layer], key), dim=-2)
        values = torch.cat((self.cache.values[layer], value), dim=-2)
        self.keys.append(keys)
        self.values.append(values)
        return keys, values

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        keys, values = self.join(layer, key, value)
        ages = torch.arange(keys.shape[-2] - 1, -1, -1, device=keys.device)
        table = rotary_table(-ages, keys.shape[-1])
        return F.scaled_dot_product_attention(query, rotate(keys, *table), values)
