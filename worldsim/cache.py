"""The key-value cache of a causal video network: what a world remembers of its last frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


def rotary_table(positions: Tensor, head_dim: int, *, base: float = 100.0) -> tuple[Tensor, Tensor]:
    """Cosine and sine (..., head_dim / 2) float32 of rotary embedding at `positions` in frames (RoFormer, eq. 34)."""
    exponent = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    angle = positions.to(torch.float32)[..., None] * base**-exponent
    return angle.cos(), angle.sin()


def turns_of(window: int, head_dim: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """`rotary_table` of the slots of a memory, whose keys are as old as they are far from the frame that asks."""
    return rotary_table(-torch.arange(window, 0, -1, device=device), head_dim)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x (..., positions, head_dim) by tables (positions, head_dim / 2); computed in float32."""
    return torch.cat(_rotated(x.float(), cos, sin), dim=-1).to(x.dtype)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Both halves of `rotate`, float32 as the tables are."""
    first, second = x.chunk(2, dim=-1)
    return (first * cos).sub_(second * sin), (first * sin).add_(second * cos)


@dataclass
class KVCache:
    """Memory of the last `window` frames of B worlds, oldest slot first, in buffers whose shape never changes.

    keys, values:  per temporal layer, (B, S, heads, window, head_dim) for S sites of a frame; keys are kept unrotated.
    turned:        the same keys rotated to their age, made once per commit, so that a denoising pass rotates nothing.
    pending:       per temporal layer, (B, S, 2, heads, head_dim) key and value that a call has left of the frame that
                   is being painted; no part of the memory until they are kept.
    previous:      (B, C, H, W) the last remembered frame in the network's space.
    frames:        (B,) int64 number of frames remembered since each world's start; slots older than that are empty.

    The only writers are the network's `commit` and, where a frame's last call is its memory, `keep`; a call writes
    `pending` where it is asked to. `clear`, `forget`, `put`, `move_to` and the copies are the world's.
    """

    keys: list[Tensor]
    values: list[Tensor]
    turned: list[Tensor]
    pending: list[Tensor]
    previous: Tensor
    frames: Tensor
    cos: Tensor
    sin: Tensor

    @classmethod
    def empty(
        cls, worlds: int, *, layers: int, sites: int, heads: int, window: int, head_dim: int, frame: Tensor
    ) -> KVCache:
        """A cache without memory for `worlds` worlds; dtype and device are those of `frame`, a (C, H, W) example."""
        shape = (worlds, sites, heads, window, head_dim)
        buffers = [[frame.new_zeros(shape) for _ in range(layers)] for _ in range(3)]
        pending = [frame.new_zeros((worlds, sites, 2, heads, head_dim)) for _ in range(layers)]
        previous = frame.new_zeros((worlds, *frame.shape))
        frames = torch.zeros(worlds, dtype=torch.int64, device=frame.device)
        return cls(*buffers, pending, previous, frames, *turns_of(window, head_dim, frame.device))

    @property
    def window(self) -> int:
        """Number of past frames that attention sees."""
        return self.keys[0].shape[3]

    def visible(self) -> Tensor:
        """(B, window) bool: the slots that hold a frame of this world."""
        ages = torch.arange(self.window, 0, -1, device=self.frames.device)
        return ages[None] <= self.frames[:, None]

    def push(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Change one layer: drop its oldest frame and append key and value, each (B, S, heads, 1, head_dim)."""
        for buffer, new in ((self.keys[layer], key), (self.values[layer], value)):
            buffer.copy_(torch.cat((buffer[..., 1:, :], new.to(buffer.dtype)), dim=-2))
        self._turn(layer)

    def leave(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Change what the last call has left of one layer: key and value, each (B, S, heads, 1, head_dim)."""
        self.pending[layer].copy_(torch.stack((key.squeeze(3), value.squeeze(3)), dim=2))

    def pending_of(self, layer: int) -> tuple[Tensor, Tensor]:
        """What the last call has left of one layer, as `push` takes it."""
        key, value = self.pending[layer].unsqueeze(4).unbind(2)
        return key, value

    def keep(self, frame: Tensor, push: Callable[[int, Tensor, Tensor], None] | None = None) -> None:
        """Push what the last call has left, as the memory of the frame (B, C, H, W) that it led to; `push` may be
        another one of the same effect."""
        push = push or self.push
        for layer in range(len(self.pending)):
            push(layer, *self.pending_of(layer))
        self.advance(frame)

    def drop_pending(self, worlds: Tensor) -> None:
        """Change what the last call has left of the worlds marked in a (B,) bool mask to zeros."""
        for pending in self.pending:
            pending.masked_fill_(worlds[:, None, None, None, None], 0)

    def aside(self) -> KVCache:
        """The same memory for a call whose keys and values are not kept: `pending` lies elsewhere."""
        return replace(self, pending=[torch.empty_like(each) for each in self.pending])

    def _turn(self, layer: int) -> None:
        """Change one layer's turned keys to what `rotate` makes of its keys, written where they belong."""
        keys, turned = self.keys[layer], self.turned[layer]
        if torch.compiler.is_compiling():  # the halves as one axis become a single loop, five times as fast as two
            halves = keys.float().unflatten(-1, (2, -1))
            cos, sin = self.cos[:, None], torch.stack((-self.sin, self.sin), dim=-2)
            turned.copy_((halves * cos + halves.flip(-2) * sin).flatten(-2))
            return
        half = self.cos.shape[-1]
        turned[..., :half], turned[..., half:] = _rotated(keys, self.cos, self.sin)

    def advance(self, frame: Tensor) -> None:
        """Change the frame count and the last frame, once all layers have been pushed. frame: (B, C, H, W)."""
        self.previous.copy_(frame)
        self.frames += 1

    def clear(self, worlds: Tensor) -> None:
        """Forget everything about the worlds marked in a (B,) bool mask; the others keep their bytes."""
        for tensor in self.tensors().values():
            tensor[worlds] = 0

    def forget(self) -> None:
        """Forget everything about all worlds, as `clear` of all; nothing here waits for a GPU."""
        for tensor in self.tensors().values():
            tensor.zero_()

    def clone(self) -> KVCache:
        """An independent copy: changing one never changes the other."""
        return self.select(range(len(self.frames)))

    def select(self, worlds: Sequence[int]) -> KVCache:
        """An independent copy of these worlds, in this order."""
        rows = torch.as_tensor(list(worlds), device=self.frames.device)
        return self._map(lambda tensor: tensor[rows])

    def put(self, worlds: Sequence[int], other: KVCache) -> None:
        """Change these worlds into copies of those of `other`, one each; the rest keep their bytes."""
        rows = torch.as_tensor(list(worlds), device=self.frames.device)
        new = other.tensors()
        for name, tensor in self.tensors().items():
            tensor[rows] = new[name]

    def move_to(self, place: KVCache) -> None:
        """Change both: this memory lies in the tensors of `place` from now on, of its size, which take its content."""
        mine = self.tensors()
        for name, tensor in place.tensors().items():
            if tensor is not mine[name]:
                tensor.copy_(mine[name])
        self.keys, self.values, self.turned = list(place.keys), list(place.values), list(place.turned)
        self.pending = list(place.pending)
        self.previous, self.frames = place.previous, place.frames

    def to(self, device: torch.device | str) -> KVCache:
        """The same memory on that device, a copy only where it is another one."""
        return self._map(lambda tensor: tensor.to(device))

    @classmethod
    def join(cls, caches: Sequence[KVCache]) -> KVCache:
        """A copy of all worlds of the given caches, in order."""
        stored = [cache.tensors() for cache in caches]
        return cls.of({name: torch.cat([each[name] for each in stored]) for name in stored[0]})

    def tensors(self) -> dict[str, Tensor]:
        """All that changes, by name, first what is `remembered`; the tensors themselves, no copies."""
        named = {f"pending.{layer}": tensor for layer, tensor in enumerate(self.pending)}
        return self.remembered() | named

    def remembered(self) -> dict[str, Tensor]:
        """Of `tensors` those that are memory: all but what a call has left."""
        lists = {"keys": self.keys, "values": self.values, "turned": self.turned}
        named = {f"{kind}.{layer}": tensor for kind, group in lists.items() for layer, tensor in enumerate(group)}
        return named | {"previous": self.previous, "frames": self.frames}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], turns: tuple[Tensor, Tensor] | None = None) -> KVCache:
        """The cache whose `tensors`, or `remembered`, these are; KeyError where one is missing.

        turns: its `turns_of`, where they are at hand.
        """
        turns = turns or turns_of(*tensors["keys.0"].shape[-2:], tensors["frames"].device)
        layers = sum(name.startswith("keys.") for name in tensors)
        groups = ([tensors[f"{kind}.{layer}"] for layer in range(layers)] for kind in ("keys", "values", "turned"))
        if "pending.0" in tensors:
            pending = [tensors[f"pending.{layer}"] for layer in range(layers)]
        else:
            pending = [_no_call(tensors[f"keys.{layer}"]) for layer in range(layers)]
        return cls(*groups, pending, tensors["previous"], tensors["frames"], *turns)

    def _map(self, change: Callable[[Tensor], Tensor]) -> KVCache:
        groups = ([change(tensor) for tensor in group] for group in (self.keys, self.values, self.turned, self.pending))
        frames = change(self.frames)
        turns = (each.to(frames.device) for each in (self.cos, self.sin))
        return KVCache(*groups, change(self.previous), frames, *turns)


def _no_call(keys: Tensor) -> Tensor:
    """What is pending beside these keys (B, S, heads, window, head_dim) where no call has left anything: zeros."""
    return torch.zeros_like(keys[..., :2, :]).transpose(2, 3).contiguous()
