"""`worldsim.models.dit.CausalDiT` for play: fewer and larger operations, the noise level's part tabulated."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from worldsim.cache import KVCache
from worldsim.engine.kernels import Linear
from worldsim.engine.stems import HEADS, STEMS, Affine
from worldsim.models import dit
from worldsim.models.dit import CausalDiT


@dataclass(frozen=True)
class Level:
    """All that depends on the noise level alone: constants, while the level is one of few."""

    stem: tuple[Affine, ...]
    blocks: list[list[Tensor]]
    """Per block its shift, scale + 1 and gate, each (dim,), of attention, MLP and attention through time."""
    head: tuple[Affine, ...]


class PackedDiT:
    """The same answers as the plain network up to rounding, for worlds that are all asked at one noise level.

    It plays and has no parameters of its own; a batch at mixed noise levels goes to the plain network.
    """

    engine = "packed"

    def __init__(self, plain: CausalDiT, sigmas: Iterable[float]) -> None:
        self.plain = plain
        self.stem = STEMS[type(plain.stem)](plain.stem)
        self.head = HEADS[type(plain.head)](plain.head, plain.grid)
        self.blocks = [Block(block) for block in plain.blocks]
        self.action = (Linear.of(plain.action[0], "silu"), Linear.of(plain.action[2]))
        self.steer = Linear(
            torch.cat([block.action.weight for block in plain.blocks]),
            torch.cat([block.action.bias for block in plain.blocks]),
        )
        self.position, self.no_action = plain.position.detach(), plain.no_action.detach()
        self.last = plain.config.temporal_every * (plain.temporal_layers - 1)
        """The last block with attention through time, where a commit ends."""
        self.levels = {_float32(sigma): self._level(sigma) for sigma in {0.0, *sigmas}}

    def new_cache(self, worlds: int) -> KVCache:
        """As `CausalDiT.new_cache`."""
        return self.plain.new_cache(worlds)

    @torch.inference_mode()
    def __call__(self, x_t: Tensor, sigma: Tensor, action: Tensor, cache: KVCache) -> Tensor:
        """As `CausalDiT.forward`."""
        asked = set(sigma.tolist())
        if len(asked) > 1:
            return self.plain(x_t, sigma, action, cache)
        return self.at_level(x_t, asked.pop(), action, cache)

    @torch.inference_mode()
    def at_level(self, x_t: Tensor, sigma: float, action: Tensor, cache: KVCache) -> Tensor:
        """As `CausalDiT.forward` of worlds at one noise level, for which nothing has to come back from a GPU."""
        return self.denoise(x_t, self.level_of(sigma), action, cache)

    @torch.inference_mode()
    def commit(self, x_0: Tensor, action: Tensor | None, cache: KVCache) -> None:
        """As `CausalDiT.commit`."""
        steers = self.steers(action) if action is not None else self._steer_unknown(len(x_0))
        self.write(x_0, self.level_of(0.0), steers, cache)

    def denoise(self, x_t: Tensor, level: Level, action: Tensor, cache: KVCache) -> Tensor:
        """`CausalDiT.forward` at a level that is known."""
        memory = Memory(cache)
        x, skips = self._enter(x_t, cache, level)
        for block, steer, parts in zip(self.blocks, self.steers(action), level.blocks, strict=True):
            x = block(x.add_(steer), parts, memory)
        return self.head(x, skips, level.head).float()

    def write(self, x_0: Tensor, level: Level, steers: tuple[Tensor, ...], cache: KVCache) -> None:
        """`CausalDiT.commit` at the level of clean frames."""
        memory = Memory(cache)
        x, _ = self._enter(x_0, cache, level)
        for block, steer, parts in zip(self.blocks[: self.last], steers, level.blocks, strict=False):
            x = block(x.add_(steer), parts, memory)
        self.blocks[self.last].remember(x.add_(steers[self.last]), level.blocks[self.last], memory)
        for layer, (key, value) in enumerate(memory.new):
            cache.push(layer, key, value)
        cache.advance(x_0)

    def write_steered(self, x_0: Tensor, level: Level, action: Tensor, cache: KVCache) -> None:
        """`write` after an action (B, A) that is known."""
        self.write(x_0, level, self.steers(action), cache)

    def level_of(self, sigma: float) -> Level:
        """The constants of a noise level, worked out now where it was not announced."""
        return self.levels.get(_float32(sigma)) or self._level(sigma)

    @torch.no_grad()
    def _level(self, sigma: float) -> Level:
        asked, clean = torch.tensor([[sigma], [0.0]], device=self.position.device)
        noise = self.plain._embed_noise(asked, clean)
        modulation = self.plain.modulation(F.silu(noise)).view(9, -1)
        blocks = [block.table(modulation) for block in self.blocks]
        return Level(self.stem.table(noise), blocks, self.head.table(noise))

    def _enter(self, x: Tensor, cache: KVCache, level: Level) -> tuple[Tensor, tuple[Tensor, ...]]:
        x = x.to(cache.previous.dtype)
        frames = torch.cat((x, cache.previous), dim=1) if self.plain.config.previous_frame else x
        tokens, skips = self.stem(frames, level.stem)
        return tokens + self.position, skips

    def steers(self, action: Tensor) -> tuple[Tensor, ...]:
        """Per block what the action (B, A) adds to its tokens, (B, 1, dim)."""
        embedded = self.action[1](self.action[0](action.to(torch.bfloat16)))
        return self.steer(embedded)[:, None].chunk(len(self.blocks), dim=-1)

    def _steer_unknown(self, worlds: int) -> tuple[Tensor, ...]:
        return self.steer(self.no_action.repeat(worlds, 1))[:, None].chunk(len(self.blocks), dim=-1)


class Memory:
    """A cache as the blocks of one pass read it, with the keys and values that the pass leaves behind."""

    def __init__(self, cache: KVCache) -> None:
        self.cache = cache
        self.new: list[tuple[Tensor, Tensor]] = []
        visible = cache.visible()
        # A traced or recorded pass must do for a full and for an empty memory, and asking a GPU would wait for it.
        may_ask = visible.device.type == "cpu" and not torch.compiler.is_compiling()
        is_full = may_ask and bool(visible.all())
        self.hidden = None if is_full else ~visible[:, None, None, None]

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention of each site and head over its past and itself, (B, S, heads, 1, head_dim) each."""
        layer = len(self.new)
        self.new.append((key, value))
        past = _scores(query, self.cache.turned[layer])
        if self.hidden is not None:
            past = past.masked_fill(self.hidden, -torch.inf)
        present = (query * key).sum(-1, keepdim=True)
        weight = torch.cat((past, present), dim=-1).softmax(dim=-1)
        return torch.addcmul(_weighted(weight[..., :-1], self.cache.values[layer]), weight[..., -1:], value)


class Attention:
    """`worldsim.models.dit.Attention`; queries carry the factor 1 / sqrt(head_dim) of their product with keys."""

    def __init__(self, plain: dit.Attention) -> None:
        self.heads = plain.heads
        self.qkv, self.out = Linear.of(plain.qkv), Linear.of(plain.out)
        query, key = plain.query_norm.weight.detach(), plain.key_norm.weight.detach()
        # The norm is the unit vector times sqrt(head_dim); a query leaves that out, as scores are divided by it.
        self.gain = torch.stack((query, key * len(key) ** 0.5))[:, None].repeat(1, self.heads, 1)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, S, dim) -> query, key, value, each (B, S, heads, head_dim)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))
        both = qkv[:, :, :2]
        length = torch.linalg.vector_norm(both, dim=-1, keepdim=True, dtype=torch.float32)
        both.mul_(length.clamp_(min=1e-6).reciprocal_().to(both.dtype)).mul_(self.gain)
        return qkv.unbind(2)


class Block:
    """`worldsim.models.dit.Block`, one frame a world: (B, S, dim); it changes its input."""

    def __init__(self, plain: dit.Block) -> None:
        self.parts, self.modulation = plain.parts, plain.modulation.detach()
        self.space = Attention(plain.space)
        self.time = None if plain.time is None else Attention(plain.time)
        self.up, self.down = Linear.of(plain.mlp[0], "gelu"), Linear.of(plain.mlp[2])

    def table(self, modulation: Tensor) -> list[Tensor]:
        """What the network makes of a noise level, (9, dim) -> this block's shift, scale + 1 and gate of each part."""
        parts = modulation[: self.parts] + self.modulation
        parts[1::3] += 1
        return list(parts.unbind())

    def __call__(self, x: Tensor, parts: list[Tensor], memory: Memory) -> Tensor:
        x = self._within(x, parts)
        if self.time is None:
            return x
        query, key, value = (y.unsqueeze(3) for y in self.time.project(_modulated(x, *parts[6:8])))
        return x.addcmul_(parts[8], self.time.out(memory.attend(query, key, value).flatten(2)))

    def remember(self, x: Tensor, parts: list[Tensor], memory: Memory) -> None:
        """Leave keys and values in the memory and stop there, as the last block of a commit may."""
        _, key, value = self.time.project(_modulated(self._within(x, parts), *parts[6:8]))
        memory.new.append((key.unsqueeze(3), value.unsqueeze(3)))

    def _within(self, x: Tensor, parts: list[Tensor]) -> Tensor:
        query, key, value = (y.transpose(1, 2) for y in self.space.project(_modulated(x, *parts[:2])))
        out = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        x.addcmul_(parts[2], self.space.out(out.transpose(1, 2).flatten(2)))
        return x.addcmul_(parts[5], self.down(self.up(_modulated(x, *parts[3:5]))))


def _scores(query: Tensor, keys: Tensor) -> Tensor:
    """Product of one query (..., 1, head_dim) with each of its keys (..., window, head_dim): (..., 1, window)."""
    if not _fuses(query):
        return query @ keys.transpose(-1, -2)
    return (query.float() * keys.float()).sum(-1)[..., None, :].to(query.dtype)


def _weighted(weight: Tensor, values: Tensor) -> Tensor:
    """Sum of values (..., window, head_dim) by their weight (..., 1, window): (..., 1, head_dim)."""
    if not _fuses(weight):
        return weight @ values
    return (weight.transpose(-1, -2).float() * values.float()).sum(-2, keepdim=True).to(values.dtype)


def _fuses(x: Tensor) -> bool:
    """Whether a compiler for a GPU is at work: it reads a memory once for a sum of products, as fast as it can be read;
    a matrix product of one row does not."""
    return x.device.type != "cpu" and torch.compiler.is_compiling()


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return F.layer_norm(x, scale.shape, scale, shift, 1e-6)


def _float32(sigma: float) -> float:
    return torch.tensor(sigma, dtype=torch.float32).item()
