"""Attention through time and its memory on a GPU, each one kernel: a memory is read once, as fast as it can be read.

Written in Triton, which torch's builds for a GPU bring along; only what is compiled for a GPU imports this.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from worldsim.cache import KVCache
from worldsim.engine.network import Memory

WARP = {"num_warps": 1}
"""Of a kernel whose programs each do one head of one site: some kilobytes."""


class GpuMemory(Memory):
    """The same answers as `Memory` up to rounding; sums are float32 all the way."""

    def __init__(self, cache: KVCache) -> None:
        self.cache = cache
        self.new: list[tuple[Tensor, Tensor]] = []

    def look(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """As `Memory.look`."""
        worlds, sites, heads, _, size = query.shape
        out = query.new_empty(worlds, sites, heads, 1, size)
        memory = self.cache.turned[layer], self.cache.values[layer]
        _look[(worlds * sites * heads,)](
            *(query, key, value, *memory, self.cache.frames, out),
            *(query.stride(1), sites, heads, self.cache.window, size),
            **_blocks(self.cache),
            **WARP,
        )
        return out

    def push(self, layer: int, key: Tensor, value: Tensor) -> None:
        """As `KVCache.push`."""
        worlds, sites, heads, _, size = key.shape
        cache = self.cache
        _push[(worlds * sites * heads,)](
            *(key, value, cache.keys[layer], cache.values[layer], cache.turned[layer], cache.cos, cache.sin),
            *(key.stride(1), heads, cache.window, size),
            **_blocks(cache),
            **WARP,
        )


def _blocks(cache: KVCache) -> dict[str, int]:
    """The powers of two that a memory's slots and a head's features are computed in."""
    window, size = cache.keys[0].shape[-2:]
    return {"slots": triton.next_power_of_2(window), "features": triton.next_power_of_2(size)}


# Numbers of worlds, sites and heads: program i is head i % heads of site i // heads of all worlds. row: elements from
# one site's query, key or value to the next one's, of which the heads lie one after another.


@triton.jit
def _look(
    query,
    key,
    value,
    keys,
    values,
    frames,
    out,
    row,
    sites: tl.constexpr,
    heads: tl.constexpr,
    window: tl.constexpr,
    size: tl.constexpr,
    slots: tl.constexpr,
    features: tl.constexpr,
):
    """Attention of one query over the slots that hold a frame, and over its own key and value."""
    program = tl.program_id(0).to(tl.int64)
    site = program // heads
    feature, slot = tl.arange(0, features), tl.arange(0, slots)
    is_feature, is_slot = feature < size, slot < window
    own = site * row + program % heads * size + feature
    asked = tl.load(query + own, is_feature, 0.0).to(tl.float32)
    own_score = tl.sum(asked * tl.load(key + own, is_feature, 0.0).to(tl.float32), 0)

    place = program * window * size + slot[:, None] * size + feature[None, :]
    is_there = is_slot[:, None] & is_feature[None, :]
    kept_keys = tl.load(keys + place, is_there, 0.0).to(tl.float32)
    kept_values = tl.load(values + place, is_there, 0.0).to(tl.float32)
    is_visible = is_slot & (window - slot <= tl.load(frames + site // sites))
    score = tl.where(is_visible, tl.sum(kept_keys * asked[None, :], 1), float("-inf"))

    highest = tl.maximum(tl.max(score, 0), own_score)
    weight, own_weight = tl.exp(score - highest), tl.exp(own_score - highest)
    mixed = tl.sum(kept_values * weight[:, None], 0)
    mixed += own_weight * tl.load(value + own, is_feature, 0.0).to(tl.float32)
    seen = mixed / (tl.sum(weight, 0) + own_weight)
    tl.store(out + program * size + feature, seen.to(out.dtype.element_ty), is_feature)


@triton.jit
def _push(
    key,
    value,
    keys,
    values,
    turned,
    cos,
    sin,
    row,
    heads: tl.constexpr,
    window: tl.constexpr,
    size: tl.constexpr,
    slots: tl.constexpr,
    features: tl.constexpr,
):
    """One slot older each, the new key and value last, and the keys turned to their new age."""
    program = tl.program_id(0).to(tl.int64)
    feature, slot = tl.arange(0, features)[None, :], tl.arange(0, slots)[:, None]
    half: tl.constexpr = size // 2
    partner = tl.where(feature < half, feature + half, feature - half)  # the other half of a pair that turns together
    new = program // heads * row + program % heads * size
    place = program * window * size + slot * size
    is_feature, is_there = feature < size, (slot < window) & (feature < size)
    moves, is_last = (slot < window - 1) & is_feature, slot == window - 1

    older_key = tl.where(
        is_last, tl.load(key + new + feature, is_feature, 0.0), tl.load(keys + place + size + feature, moves, 0.0)
    )
    older_other = tl.where(
        is_last, tl.load(key + new + partner, is_feature, 0.0), tl.load(keys + place + size + partner, moves, 0.0)
    )
    older_value = tl.where(
        is_last, tl.load(value + new + feature, is_feature, 0.0), tl.load(values + place + size + feature, moves, 0.0)
    )
    angle = slot * half + feature % half
    along, across = tl.load(cos + angle, is_there, 0.0), tl.load(sin + angle, is_there, 0.0)
    across = tl.where(feature < half, -across, across)
    turn = older_key.to(tl.float32) * along + older_other.to(tl.float32) * across

    tl.debug_barrier()  # all is read before any of it is overwritten
    tl.store(keys + place + feature, older_key, is_there)
    tl.store(values + place + feature, older_value, is_there)
    tl.store(turned + place + feature, turn.to(turned.dtype.element_ty), is_there)
