"""Stems that turn frames into tokens, paired with the heads that paint frames from tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

REDUCTION = 8
"""Pixels per token along each axis."""


class PatchStem(nn.Module):
    """Linear patch embedding: frames (N, C, H, W) -> tokens (N, S, dim), no skip connections."""

    def __init__(self, channels: int, dim: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels, dim, REDUCTION, stride=REDUCTION)

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self.embed(x).flatten(2).transpose(1, 2), ()


class PatchHead(nn.Module):
    """Linear patch output: tokens (N, S, dim) -> frames (N, C, H, W)."""

    def __init__(self, channels: int, dim: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.paint = nn.Linear(dim, channels * REDUCTION**2)

    def forward(self, tokens: Tensor, skips: tuple[Tensor, ...], noise: Tensor, grid: tuple[int, int]) -> Tensor:
        patches = self.paint(self.norm(tokens)).transpose(1, 2).unflatten(2, grid)
        return F.pixel_shuffle(patches, REDUCTION)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a residual; the noise level scales and shifts the second normalisation."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.norm_1 = nn.GroupNorm(8, width)
        self.conv_1 = nn.Conv2d(width, width, 3, padding=1)
        self.noise = nn.Linear(dim, 2 * width)
        self.norm_2 = nn.GroupNorm(8, width)
        self.conv_2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.noise.weight)
        nn.init.zeros_(self.noise.bias)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        h = self.conv_1(F.silu(self.norm_1(x)))
        scale, shift = self.noise(noise)[:, :, None, None].chunk(2, dim=1)
        return x + self.conv_2(F.silu(self.norm_2(h) * (1 + scale) + shift))


class ConvStem(nn.Module):
    """Convolutions from half resolution down to one token per 8x8 pixels; keeps skips at 1/2 and 1/4 resolution."""

    def __init__(self, channels: int, dim: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        fine, coarse = widths
        self.enter = nn.Conv2d(4 * channels, fine, 3, padding=1)
        self.fine = ResidualBlock(fine, dim)
        self.down = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
        self.coarse = ResidualBlock(coarse, dim)
        self.leave = nn.Conv2d(coarse, dim, 3, stride=2, padding=1)

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        fine = self.fine(self.enter(F.pixel_unshuffle(x, 2)), noise)
        coarse = self.coarse(self.down(fine), noise)
        return self.leave(coarse).flatten(2).transpose(1, 2), (fine, coarse)


class ConvHead(nn.Module):
    """Convolutions from tokens back to the frame, joined by the stem's skips; the last step is a 2x2 pixel shuffle."""

    def __init__(self, channels: int, dim: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        fine, coarse = widths
        self.norm = nn.LayerNorm(dim)
        self.enter = nn.Linear(dim, 4 * coarse)
        self.join_coarse = nn.Conv2d(2 * coarse, coarse, 3, padding=1)
        self.coarse = ResidualBlock(coarse, dim)
        self.up = nn.Conv2d(coarse, 4 * fine, 1)
        self.join_fine = nn.Conv2d(2 * fine, fine, 3, padding=1)
        self.fine = ResidualBlock(fine, dim)
        self.leave = nn.Conv2d(fine, 4 * channels, 3, padding=1)

    def forward(self, tokens: Tensor, skips: tuple[Tensor, ...], noise: Tensor, grid: tuple[int, int]) -> Tensor:
        fine, coarse = skips
        x = F.pixel_shuffle(self.enter(self.norm(tokens)).transpose(1, 2).unflatten(2, grid), 2)
        x = self.coarse(self.join_coarse(torch.cat((x, coarse), dim=1)), noise)
        x = F.pixel_shuffle(self.up(x), 2)
        x = self.fine(self.join_fine(torch.cat((x, fine), dim=1)), noise)
        return F.pixel_shuffle(self.leave(x), 2)


STEMS: dict[str, tuple[type[nn.Module], type[nn.Module]]] = {
    "patch": (PatchStem, PatchHead),
    "conv": (ConvStem, ConvHead),
}
