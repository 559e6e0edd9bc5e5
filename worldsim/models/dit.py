"""The frame-wise causal diffusion transformer with factorised space-time attention."""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F

from worldsim.cache import KVCache, rotary_table, rotate
from worldsim.models.stems import REDUCTION, STEMS

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Temporal attention of one layer: (layer, query, key, value), each (B, S, heads, T, head_dim), -> the same shape."""


def packed_mask(frames: int, window: int, device: torch.device | str = "cpu") -> Tensor:
    """(2F, 2F) bool, query x key, over [clean 1..F | noisy 1..F]: who sees whom in teacher forcing (arXiv 2602.02214).

    A clean frame sees itself and the `window` clean frames before it; a noisy frame sees itself and the `window` clean
    frames before it, never its own clean version.
    """
    i = torch.arange(frames, device=device)
    age = i[:, None] - i[None, :]
    itself, past = age == 0, (age > 0) & (age <= window)
    never = torch.zeros_like(itself)
    return torch.cat((torch.cat((itself | past, never), dim=1), torch.cat((past, itself), dim=1)), dim=0)


class PackedAttention:
    """Temporal attention over [clean | noisy] frames at once; both halves share their frame positions."""

    def __init__(self, frames: int, window: int, head_dim: int, device: torch.device) -> None:
        self.mask = packed_mask(frames, window, device)
        self.table = rotary_table(torch.arange(frames, device=device).repeat(2), head_dim)

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key = rotate(query, *self.table), rotate(key, *self.table)
        flat = (x.flatten(0, 1) for x in (query, key, value))
        return F.scaled_dot_product_attention(*flat, attn_mask=self.mask).view_as(value)


class DetachedAttention(PackedAttention):
    """`PackedAttention` whose clean frames are memory as in play: no gradient flows back into how they were written."""

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return super().__call__(layer, query, _detach_clean(key), _detach_clean(value))


def _detach_clean(x: Tensor) -> Tensor:
    clean, noisy = x.chunk(2, dim=-2)
    return torch.cat((clean.detach(), noisy), dim=-2)


class CachedAttention:
    """Temporal attention of one frame over its world's memory and itself; nothing of the memory is written.

    leaves: each layer's key and value are left in the cache, for `KVCache.keep`.
    """

    def __init__(self, cache: KVCache, *, leaves: bool = False) -> None:
        self.cache, self.leaves = cache, leaves
        bias = torch.zeros(cache.visible().shape, device=cache.frames.device)
        self.bias = bias.masked_fill(~cache.visible(), -torch.inf)[:, None, None, None]

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if self.leaves:
            self.cache.leave(layer, key, value)
        scale = query.shape[-1] ** -0.5
        past = (query @ self.cache.turned[layer].transpose(-1, -2)).float() * scale + self.bias
        present = (query * key).sum(-1, keepdim=True).float() * scale
        weight = torch.cat((past, present), dim=-1).softmax(dim=-1).to(value.dtype)
        return weight[..., :-1] @ self.cache.values[layer] + weight[..., -1:] * value


class CommittingAttention(CachedAttention):
    """`CachedAttention` that keeps each layer's new key and value, to be pushed when the whole pass is done."""

    def __init__(self, cache: KVCache) -> None:
        super().__init__(cache)
        self.new: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        self.new[layer] = (key, value)
        return super().__call__(layer, query, key, value)


class AdvancingAttention:
    """Temporal attention of a clean and a noisy frame after it: the clean one over memory and itself, then written to
    memory, then the noisy one over that and itself. Layers must come in order, each once."""

    def __init__(self, cache: KVCache) -> None:
        self.cache, self.before = cache, CachedAttention(cache)
        cache.frames += 1
        self.after = CachedAttention(cache)

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        clean, noisy = zip(*(each.split(1, dim=-2) for each in (query, key, value)), strict=True)
        seen = self.before(layer, *clean)
        self.cache.push(layer, *clean[1:])
        return torch.cat((seen, self.after(layer, *noisy)), dim=-2)


class BidirectionalAttention:
    """Temporal attention of each frame over the frames at most `window` away, before and after, and itself."""

    def __init__(self, frames: int, window: int, head_dim: int, device: torch.device) -> None:
        i = torch.arange(frames, device=device)
        self.mask = (i[:, None] - i[None, :]).abs() <= window
        self.table = rotary_table(i, head_dim)

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key = rotate(query, *self.table), rotate(key, *self.table)
        flat = (x.flatten(0, 1) for x in (query, key, value))
        return F.scaled_dot_product_attention(*flat, attn_mask=self.mask).view_as(value)


class UnitNorm(nn.Module):
    """Root-mean-square normalisation of the last axis, as `nn.RMSNorm` but in half as many operations on a CPU."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        return x * (x.shape[-1] ** 0.5 / length.clamp(min=1e-6)).to(x.dtype) * self.weight


class Attention(nn.Module):
    """Projections of multi-head attention with normalised queries and keys."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.query_norm = UnitNorm(dim // heads)
        self.key_norm = UnitNorm(dim // heads)
        self.out = nn.Linear(dim, dim)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(..., dim) -> query, key, value, each (..., heads, head_dim)."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        return self.query_norm(query), self.key_norm(key), value


class Block(nn.Module):
    """Attention within the frame, an MLP and, in some blocks, attention through time at each site; adaLN-modulated."""

    def __init__(self, dim: int, heads: int, temporal: bool) -> None:
        super().__init__()
        self.parts = 9 if temporal else 6
        self.action = nn.Linear(dim, dim)
        self.space = Attention(dim, heads)
        self.time = Attention(dim, heads) if temporal else None
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, dim))
        self.modulation = nn.Parameter(torch.zeros(self.parts, dim))
        nn.init.zeros_(self.action.weight)
        nn.init.zeros_(self.action.bias)

    def forward(self, x: Tensor, noise: Tensor, action: Tensor, layer: int, attend: Attend) -> Tensor:
        """x: (B, T, S, dim); noise: (B, T, 9, dim) modulation; action: (B, T, dim); layer: index of temporal blocks."""
        parts = (noise[:, :, : self.parts] + self.modulation).unsqueeze(3).unbind(2)
        x = x + self.action(action).unsqueeze(2)
        x = x + parts[2] * self._space(_modulate(x, parts[0], parts[1]))
        x = x + parts[5] * self.mlp(_modulate(x, parts[3], parts[4]))
        if self.time is not None:
            x = x + parts[8] * self._time(_modulate(x, parts[6], parts[7]), layer, attend)
        return x

    def _space(self, x: Tensor) -> Tensor:
        query, key, value = (y.flatten(0, 1).transpose(1, 2) for y in self.space.project(x))
        out = F.scaled_dot_product_attention(query, key, value)
        return self.space.out(out.transpose(1, 2).reshape(x.shape))

    def _time(self, x: Tensor, layer: int, attend: Attend) -> Tensor:
        # Sites change places with frames before the projection, so that no query, key or value is copied after it.
        query, key, value = (y.transpose(2, 3) for y in self.time.project(x.transpose(1, 2)))
        return self.time.out(attend(layer, query, key, value).transpose(2, 3).flatten(3)).transpose(1, 2)


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=1e-6), 1 + scale)


class NoiseEmbedding(nn.Module):
    """Noise levels (...,) in [0, 1] -> (..., dim), through 64 Fourier features."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(128, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, sigma: Tensor) -> Tensor:
        octave = torch.linspace(0.0, 7.0, 64, device=sigma.device, dtype=torch.float32)
        angle = sigma.float()[..., None] * torch.exp2(octave)
        return self.mlp(torch.cat((angle.cos(), angle.sin()), dim=-1).to(self.mlp[0].weight.dtype))


class CausalDiT(ModelMixin, ConfigMixin):
    """Denoiser of the next frame, given the frames before it and the action (Causal Forcing++, arXiv 2605.15141).

    It answers the clean frame directly, as fp32 in about [-1, 1]. Frames enter as (B, C, H, W) in [-1, 1]; height and
    width are multiples of 8; a token stands for 8x8 pixels. The action enters beside adaLN, so that modulation depends
    on the noise level alone. With `previous_frame` the frame before is an extra input of the stem.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        height: int,
        width: int,
        action_size: int,
        channels: int = 3,
        dim: int = 256,
        depth: int = 6,
        heads: int = 4,
        window: int = 16,
        temporal_every: int = 2,
        stem_kind: str = "conv",
        conv_widths: tuple[int, int] = (64, 128),
        previous_frame: bool = True,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False  # diffusers' `enable_gradient_checkpointing` turns it on
        if height % REDUCTION or width % REDUCTION:
            raise ValueError(f"frames of {height}x{width} do not divide into 8x8 tokens; use multiples of {REDUCTION}")
        if stem_kind not in STEMS:
            raise ValueError(f"unknown stem_kind {stem_kind!r}; use one of {', '.join(STEMS)}")
        self.grid = (height // REDUCTION, width // REDUCTION)
        self.head_dim = dim // heads
        self.temporal_layers = len(range(0, depth, temporal_every))
        stem_class, head_class = STEMS[stem_kind]
        self.stem = stem_class(channels * (2 if previous_frame else 1), dim, tuple(conv_widths))
        self.head = head_class(channels, dim, tuple(conv_widths))
        self.position = nn.Parameter(0.02 * torch.randn(self.grid[0] * self.grid[1], dim))
        self.noise = NoiseEmbedding(dim)
        self.context_noise = NoiseEmbedding(dim)
        self.modulation = nn.Linear(dim, 9 * dim)
        self.action = nn.Sequential(nn.Linear(action_size, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.no_action = nn.Parameter(torch.zeros(dim))
        self.blocks = nn.ModuleList(Block(dim, heads, i % temporal_every == 0) for i in range(depth))
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    # --- playing: one frame at a time, memory in the cache ---

    def new_cache(self, worlds: int) -> KVCache:
        """An empty memory for `worlds` worlds, on the weights' device and in their dtype."""
        config = self.config
        return KVCache.empty(
            worlds,
            layers=self.temporal_layers,
            sites=len(self.position),
            heads=config.heads,
            window=config.window,
            head_dim=self.head_dim,
            frame=self.position.new_zeros(config.channels, config.height, config.width),
        )

    def forward(self, x_t: Tensor, sigma: Tensor, action: Tensor, cache: KVCache, *, leave: bool = False) -> Tensor:
        """Clean frame (B, C, H, W) float32 from a noisy one. sigma: (B,) in [0, 1]; action: (B, A).

        leave: this call's keys and values are left in the cache, for `keep`; the memory itself is never written.
        """
        memory = cache.previous[:, None]
        known = torch.ones(action.shape[:1], dtype=torch.bool, device=action.device)
        noise = self._embed_noise(sigma[:, None], torch.zeros_like(sigma)[:, None])
        tokens, skips = self._enter(x_t[:, None], memory, noise)
        attend = CachedAttention(cache, leaves=leave)
        tokens = self._think(tokens, noise, self._embed_action(action, known)[:, None], attend)
        return self._leave(tokens, skips, noise)[:, 0]

    def keep(self, x_0: Tensor, cache: KVCache) -> None:
        """Write a finished frame (B, C, H, W) to memory without a pass: as the call that painted it left it there. For
        networks that were trained on such a memory."""
        cache.keep(x_0)

    def commit(self, x_0: Tensor, action: Tensor | None, cache: KVCache) -> None:
        """Write a finished frame to memory. x_0: (B, C, H, W) in [-1, 1]; action: (B, A) that led to it, None where it
        is not known (the first frame of a world)."""
        known = torch.full(x_0.shape[:1], action is not None, device=x_0.device)
        action = x_0.new_zeros(len(x_0), self.config.action_size) if action is None else action
        self.write(x_0, action, known, cache)

    def write(self, x_0: Tensor, action: Tensor, known: Tensor, cache: KVCache) -> None:
        """`commit` of worlds of which only some know the action that led to the frame; known: (B,) bool."""
        clean = x_0.new_zeros(len(x_0), 1)
        noise = self._embed_noise(clean, clean)
        tokens, _ = self._enter(x_0[:, None], cache.previous[:, None], noise)
        attend = CommittingAttention(cache)
        blocks = range(self._last_temporal() + 1)
        self._think(tokens, noise, self._embed_action(action, known)[:, None], attend, blocks)
        for layer, (key, value) in attend.new.items():
            cache.push(layer, key, value)
        cache.advance(x_0)

    def advance(
        self, x_0: Tensor, action_0: Tensor, x_t: Tensor, sigma: float, action: Tensor, cache: KVCache
    ) -> Tensor:
        """`commit(x_0, action_0, cache)` and then `forward` of x_t at one level for all worlds, in one pass over both
        frames: weights are read once and products have twice the rows. Unlike a commit it writes layer by layer."""
        levels = x_0.new_tensor([0.0, sigma]).expand(len(x_0), 2)
        noise = self._embed_noise(levels, torch.zeros_like(levels))
        before = torch.stack((cache.previous.to(x_0.dtype), x_0), dim=1)
        tokens, skips = self._enter(torch.stack((x_0, x_t), dim=1), before, noise)
        known = torch.ones(len(x_0), 2, dtype=torch.bool, device=x_0.device)
        actions = self._embed_action(torch.stack((action_0, action), dim=1), known)
        attend, last = AdvancingAttention(cache), self._last_temporal()
        tokens = self._think(tokens, noise, actions, attend, range(last + 1))
        # After the last temporal block nothing looks at the clean frame again.
        tokens, noise, actions = tokens[:, 1:], noise[:, 1:], actions[:, 1:]
        tokens = self._think(tokens, noise, actions, attend, range(last + 1, len(self.blocks)))
        cache.previous.copy_(x_0)
        return self._leave(tokens, tuple(skip.unflatten(0, (-1, 2))[:, 1] for skip in skips), noise)[:, 0]

    # --- training: all frames of a clip at once ---

    def packed(
        self,
        noisy: Tensor,
        sigma: Tensor,
        clean: Tensor,
        clean_sigma: Tensor,
        actions: Tensor,
        known: Tensor,
        attention: type[PackedAttention] = PackedAttention,
        kept: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Clean frames (B, T, C, H, W) float32 predicted for all frames of a clip in one pass, each from the clean
        frames before it: exactly what `commit` of those and `forward` would answer.

        noisy: (B, T, C, H, W) at noise levels sigma (B, T); clean: the same frames as context, themselves noised to
        clean_sigma (B, T) (zeros: clean); actions: (B, T, A), the action that led into each frame, where known (B, T).
        attention: `DetachedAttention` stops the gradient at what the clean frames left in memory.
        kept: the memory is then not written by `clean`, which only serves as the frame before, but by these frames
        (B, T, C, H, W) at these levels (B, T): a frame as its last call was handed it, for `keep`, or clean, at 0.
        """
        frames = noisy.shape[1]
        kept, kept_sigma = (clean, clean_sigma) if kept is None else kept
        before = torch.cat((torch.zeros_like(clean[:, :1]), clean[:, :-1]), dim=1)
        noise = self._embed_noise(torch.cat((kept_sigma, sigma), dim=1), clean_sigma.repeat(1, 2))
        tokens, skips = self._enter(torch.cat((kept, noisy), dim=1), before.repeat(1, 2, 1, 1, 1), noise)
        action = self._embed_action(actions, known).repeat(1, 2, 1)
        attend = attention(frames, self.config.window, self.head_dim, noisy.device)
        last = self._last_temporal()
        tokens = self._think(tokens, noise, action, attend, range(last + 1))
        # After the last temporal block nothing looks at the clean frames again.
        tokens, noise, action = tokens[:, frames:], noise[:, frames:], action[:, frames:]
        tokens = self._think(tokens, noise, action, attend, range(last + 1, len(self.blocks)))
        skips = tuple(skip.unflatten(0, (-1, 2 * frames))[:, frames:].flatten(0, 1) for skip in skips)
        return self._leave(tokens, skips, noise)

    def bidirectional(self, noisy: Tensor, sigma: Tensor, actions: Tensor, known: Tensor) -> Tensor:
        """Clean frames (B, T, C, H, W) float32 predicted together, each from the noisy frames and the actions before
        and after it: a scorer of whole clips, or a start for causal training. It cannot be played.

        noisy: (B, T, C, H, W) at levels sigma (B, T), trained with one level per clip; actions: (B, T, A), the action
        that led into each frame, where known (B, T). No clean frame exists here: the frame before, an input of the stem
        with `previous_frame`, is the noisy one, and its level is told as that of a spoilt context is. Zeros there
        would leave those weights untrained for the causal network that starts from these.
        """
        before = torch.cat((torch.zeros_like(noisy[:, :1]), noisy[:, :-1]), dim=1)
        noise = self._embed_noise(sigma, sigma)
        tokens, skips = self._enter(noisy, before, noise)
        attend = BidirectionalAttention(noisy.shape[1], self.config.window, self.head_dim, noisy.device)
        tokens = self._think(tokens, noise, self._embed_action(actions, known), attend)
        return self._leave(tokens, skips, noise)

    # --- parts that all share ---

    def _embed_noise(self, sigma: Tensor, context_sigma: Tensor) -> Tensor:
        return self.noise(sigma) + self.context_noise(context_sigma)

    def _embed_action(self, action: Tensor, known: Tensor) -> Tensor:
        return torch.where(known[..., None], self.action(action.to(self.position.dtype)), self.no_action)

    def _enter(self, x: Tensor, before: Tensor, noise: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        if self.config.previous_frame:
            x = torch.cat((x, before.to(x.dtype)), dim=2)
        batch, frames = x.shape[:2]
        tokens, skips = self.stem(x.flatten(0, 1).to(self.position.dtype), noise.flatten(0, 1))
        return tokens.unflatten(0, (batch, frames)) + self.position, skips

    def _think(
        self, tokens: Tensor, noise: Tensor, action: Tensor, attend: Attend, blocks: range | None = None
    ) -> Tensor:
        """The tokens after the blocks of those indices, by default all."""
        modulation = self.modulation(F.silu(noise)).unflatten(-1, (9, -1))
        for i in range(len(self.blocks)) if blocks is None else blocks:
            words = (tokens, modulation, action, i // self.config.temporal_every, attend)
            again = self.gradient_checkpointing and torch.is_grad_enabled()
            tokens = self._gradient_checkpointing_func(self.blocks[i], *words) if again else self.blocks[i](*words)
        return tokens

    def _last_temporal(self) -> int:
        return self.config.temporal_every * (self.temporal_layers - 1)

    def _leave(self, tokens: Tensor, skips: tuple[Tensor, ...], noise: Tensor) -> Tensor:
        batch = tokens.shape[0]
        frames = self.head(tokens.flatten(0, 1), skips, noise.flatten(0, 1), self.grid)
        return frames.float().unflatten(0, (batch, -1))
