"""`worldsim.models.dit.CausalDiT` for play: fewer and larger operations, the noise level's part tabulated."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from worldsim.cache import KVCache, turns_of
from worldsim.engine.kernels import Linear, compiles_for_cpu
from worldsim.engine.stems import HEADS, STEMS, Affine
from worldsim.models import dit
from worldsim.models.dit import CausalDiT

REMEMBERED_ACTIONS = 64
"""Actions whose part of the tokens is kept; one more clears them all."""


@dataclass(frozen=True)
class Level:
    """All that depends on the noise level alone: constants, while the level is one of few."""

    stem: tuple[Affine, ...]
    blocks: list[list[Tensor]]
    """Per block its shift, scale + 1 and gate, each (dim,), of attention, MLP and attention through time."""
    head: tuple[Affine, ...]

    @classmethod
    def pair(cls, first: Level, second: Level) -> Level:
        """Of two frames in one pass: each tensor (2, 1, size), the last axis that of the features."""

        def join(a: Tensor, b: Tensor) -> Tensor:
            return torch.stack((a, b))[:, None]

        def affine(a: Affine, b: Affine) -> Affine:
            return join(a[0], b[0]), join(a[1], b[1])

        stem, head = (
            tuple(affine(a, b) for a, b in zip(*each, strict=True))
            for each in ((first.stem, second.stem), (first.head, second.head))
        )
        blocks = zip(first.blocks, second.blocks, strict=True)
        return cls(stem, [[join(a, b) for a, b in zip(*each, strict=True)] for each in blocks], head)

    def second(self) -> Level:
        """The second frame's part of a pair."""
        stem, head = (tuple((a[1, 0], b[1, 0]) for a, b in each) for each in (self.stem, self.head))
        return Level(stem, [[part[1, 0] for part in parts] for parts in self.blocks], head)


class PackedDiT:
    """The same answers as the plain network up to rounding, for worlds that are all asked at one noise level.

    It plays and has no parameters of its own; a batch at mixed noise levels goes to the plain network.
    """

    engine = "packed"
    memory: type[Memory]
    """How the passes over whole batches look at a cache; `worldsim.engine.gpu` has another."""

    def __init__(self, plain: CausalDiT, sigmas: Iterable[float]) -> None:
        self.plain, self.memory = plain, Memory
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
        self.turns = turns_of(plain.config.window, plain.head_dim, self.position.device)
        self.levels = {_float32(sigma): self._level(sigma) for sigma in {0.0, *sigmas}}
        self.pairs: dict[float, Level] = {}
        self.steered: dict[bytes, Tensor] = {}

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
    def at_level(self, x_t: Tensor, sigma: float, action: Tensor, cache: KVCache, *, leave: bool = False) -> Tensor:
        """As `CausalDiT.forward` of worlds at one noise level, for which nothing has to come back from a GPU."""
        return self.denoise(x_t, self.level_of(sigma), self.steer_of(action), cache, leave=leave)

    @torch.inference_mode()
    def keep(self, x_0: Tensor, cache: KVCache) -> None:
        """As `CausalDiT.keep`."""
        self.push_pending(x_0, cache)

    @torch.inference_mode()
    def commit(self, x_0: Tensor, action: Tensor | None, cache: KVCache) -> None:
        """As `CausalDiT.commit`."""
        steer = self.steer_of(action) if action is not None else self._steer_unknown(len(x_0))
        self.write(x_0, self.level_of(0.0), steer, cache)

    @torch.inference_mode()
    def advance(
        self, x_0: Tensor, action_0: Tensor, x_t: Tensor, sigma: float, action: Tensor, cache: KVCache
    ) -> Tensor:
        """As `CausalDiT.advance`; more than one world gain little from it and get two passes."""
        if len(x_0) > 1:
            self.commit(x_0, action_0, cache)
            return self.at_level(x_t, sigma, action, cache)
        steers = torch.cat((self.steer_of(action_0), self.steer_of(action)))
        return self.both(torch.cat((x_0, x_t)), self.pair_of(sigma), steers, cache)

    # --- the passes themselves; steer: what the action adds to the tokens of each block, see `steer_of` ---

    def denoise(self, x_t: Tensor, level: Level, steer: Tensor, cache: KVCache, *, leave: bool = False) -> Tensor:
        """`CausalDiT.forward` at a level that is known."""
        memory = self.memory(cache)
        x, skips = self._enter(x_t, cache.previous, level)
        for block, part, parts in zip(self.blocks, self._steers(steer), level.blocks, strict=True):
            x = block(x.add_(part), parts, memory)
        if leave:
            for layer, (key, value) in enumerate(memory.new):
                cache.leave(layer, key, value)
        return self.head(x, skips, level.head).float()

    def write(self, x_0: Tensor, level: Level, steer: Tensor, cache: KVCache) -> None:
        """`CausalDiT.commit` at the level of clean frames."""
        memory, steers = self.memory(cache), self._steers(steer)
        x, _ = self._enter(x_0, cache.previous, level)
        for block, part, parts in zip(self.blocks[: self.last], steers, level.blocks, strict=False):
            x = block(x.add_(part), parts, memory)
        self.blocks[self.last].remember(x.add_(steers[self.last]), level.blocks[self.last], memory)
        for layer, (key, value) in enumerate(memory.new):
            memory.push(layer, key, value)
        cache.advance(x_0)

    def both(self, frames: Tensor, pair: Level, steer: Tensor, cache: KVCache) -> Tensor:
        """`write` of the first and then `denoise` of the second of one world's two frames, in one pass."""
        memory, steers = PairMemory(cache), self._steers(steer)
        before = torch.cat((cache.previous, frames[:1].to(cache.previous.dtype)))
        x, skips = self._enter(frames, before, pair)
        for block, part, parts in zip(self.blocks[: self.last], steers, pair.blocks, strict=False):
            x = block(x.add_(part), parts, memory)
        x = self.blocks[self.last].leave_behind(x.add_(steers[self.last]), pair.blocks[self.last], memory)
        alone = pair.second()
        for i in range(self.last + 1, len(self.blocks)):
            x = self.blocks[i](x.add_(steers[i][1:]), alone.blocks[i], memory)
        cache.previous.copy_(frames[:1])
        return self.head(x, tuple(skip[1:] for skip in skips), alone.head).float()

    def push_pending(self, x_0: Tensor, cache: KVCache) -> None:
        """`CausalDiT.keep`."""
        cache.keep(x_0, self.memory(cache).push)

    def denoise_after(self, x_t: Tensor, level: Level, action: Tensor, cache: KVCache) -> Tensor:
        """`denoise` after an action (B, A)."""
        return self.denoise(x_t, level, self._steer(action), cache)

    def leave_after(self, x_t: Tensor, level: Level, action: Tensor, cache: KVCache) -> Tensor:
        """`denoise`, leaving keys and values, after an action (B, A)."""
        return self.denoise(x_t, level, self._steer(action), cache, leave=True)

    def write_after(self, x_0: Tensor, level: Level, action: Tensor, cache: KVCache) -> None:
        """`write` after an action (B, A) that is known."""
        self.write(x_0, level, self._steer(action), cache)

    def pair_of(self, sigma: float) -> Level:
        """The constants of a clean and a noisy frame in one pass, worked out at the first call for a level."""
        sigma = _float32(sigma)
        if sigma not in self.pairs:
            self.pairs[sigma] = Level.pair(self.level_of(0.0), self.level_of(sigma))
        return self.pairs[sigma]

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

    def _enter(self, x: Tensor, before: Tensor, level: Level) -> tuple[Tensor, tuple[Tensor, ...]]:
        x = x.to(before.dtype)
        frames = torch.cat((x, before), dim=1) if self.plain.config.previous_frame else x
        tokens, skips = self.stem(frames, level.stem)
        return tokens + self.position, skips

    def steer_of(self, action: Tensor) -> Tensor:
        """What the action (B, A) adds to the tokens of each block: (B, 1, blocks * dim). One world's is remembered: it
        is asked for at every pass of a frame, and a game's actions are few."""
        if len(action) > 1 or action.device.type != "cpu":
            return self._steer(action)
        key = action.numpy().tobytes()
        steer = self.steered.get(key)  # held here: another thread that plays the same world may clear them
        if steer is None:
            if len(self.steered) >= REMEMBERED_ACTIONS:
                self.steered.clear()
            steer = self.steered[key] = self._steer(action)
        return steer

    def _steer(self, action: Tensor) -> Tensor:
        return self.steer(self.action[1](self.action[0](action.to(torch.bfloat16))))[:, None]

    def _steer_unknown(self, worlds: int) -> Tensor:
        return self.steer(self.no_action.repeat(worlds, 1))[:, None]

    def _steers(self, steer: Tensor) -> tuple[Tensor, ...]:
        return steer.chunk(len(self.blocks), dim=-1)


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
        self.new.append((key, value))
        return self.look(len(self.new) - 1, query, key, value)

    def look(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """`attend` in a layer that is told."""
        past = query @ self.cache.turned[layer].transpose(-1, -2)
        if self.hidden is not None:
            past = past.masked_fill(self.hidden, -torch.inf)
        present = (query * key).sum(-1, keepdim=True)
        weight = torch.cat((past, present), dim=-1).softmax(dim=-1)
        return torch.addcmul(weight[..., :-1] @ self.cache.values[layer], weight[..., -1:], value)

    def push(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Change one layer of the cache, as `KVCache.push`."""
        self.cache.push(layer, key, value)


class PairMemory:
    """`worldsim.models.dit.AdvancingAttention`: of a clean frame, which is written to memory layer by layer, and of the
    noisy one after it."""

    def __init__(self, cache: KVCache) -> None:
        self.cache, self.before, self.layer = cache, Memory(cache), 0
        cache.frames += 1
        self.after = Memory(cache)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """As `Memory.attend`, (2, S, heads, 1, head_dim) each."""
        layer, clean = self.layer, (each[:1] for each in (query, key, value))
        seen = self.before.look(layer, *clean)
        return torch.cat((seen, self.attend_noisy(query, key, value)))

    def attend_noisy(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The noisy frame's part of `attend`; the clean one is written, but what it sees is not asked for."""
        layer, noisy = self.layer, (each[1:] for each in (query, key, value))
        self.cache.push(layer, key[:1], value[:1])
        self.layer += 1
        return self.after.look(layer, *noisy)


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
        if compiles_for_cpu(x):  # what is changed in place is worked out anew for every key that it meets
            both = both * length.clamp(min=1e-6).reciprocal() * self.gain
            return *both.to(qkv.dtype).unbind(2), qkv[:, :, 2]
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

    def leave_behind(self, x: Tensor, parts: list[Tensor], memory: PairMemory) -> Tensor:
        """Of a clean and a noisy frame, the noisy one's tokens; the clean one stops here as in `remember`."""
        x = self._within(x, parts)
        query, key, value = (y.unsqueeze(3) for y in self.time.project(_modulated(x, *parts[6:8])))
        seen = memory.attend_noisy(query, key, value)
        return x[1:].addcmul_(parts[8][1:], self.time.out(seen.flatten(2)))

    def _within(self, x: Tensor, parts: list[Tensor]) -> Tensor:
        out = _looked(*(y.transpose(1, 2) for y in self.space.project(_modulated(x, *parts[:2]))))
        x.addcmul_(parts[2], self.space.out(out.transpose(1, 2).flatten(2)))
        return x.addcmul_(parts[5], self.down(self.up(_modulated(x, *parts[3:5]))))


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    if scale.dim() == 1:
        return F.layer_norm(x, scale.shape, scale, shift, 1e-6)
    return torch.addcmul(shift, F.layer_norm(x, scale.shape[-1:], None, None, 1e-6), scale)


def _looked(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of a frame's tokens to each other, (B, heads, S, head_dim) each; queries are scaled."""
    if not compiles_for_cpu(query):
        return F.scaled_dot_product_attention(query, key, value, scale=1.0)
    # In compiled code two products are quicker than torch's kernel for a CPU, if what they take lies as they want it.
    query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
    weight = (query @ key.transpose(-1, -2)).softmax(dim=-1, dtype=torch.float32)
    return weight.to(value.dtype) @ value


def _float32(sigma: float) -> float:
    return torch.tensor(sigma, dtype=torch.float32).item()
