"""The stems and heads of `worldsim.models.stems` for play: frames channels-last, the noise level's part tabulated.

Each table is a part of the network that depends on the noise level alone, worked out for one level.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldsim.engine.kernels import Convolution, Linear, compiles_for_cpu
from worldsim.models import stems
from worldsim.models.stems import REDUCTION

Affine = tuple[Tensor, Tensor]
"""Scale and shift of a normalisation, each (width,), or (2, 1, width) for two frames in one pass."""


class Entered(NamedTuple):
    """What a head needs of its stem: tokens (B, S, dim) and skips (B, C, h, w)."""

    tokens: Tensor
    skips: tuple[Tensor, ...]


class PatchStem:
    """`worldsim.models.stems.PatchStem`."""

    def __init__(self, plain: stems.PatchStem) -> None:
        self.embed = Convolution.of(plain.embed)

    def table(self, noise: Tensor) -> tuple[Affine, ...]:
        """Nothing: a linear patch embedding does not look at the noise level."""
        return ()

    def __call__(self, frames: Tensor, table: tuple[Affine, ...]) -> Entered:
        return Entered(self.embed(frames).flatten(2).transpose(1, 2).contiguous(), ())


class PatchHead:
    """`worldsim.models.stems.PatchHead`."""

    def __init__(self, plain: stems.PatchHead, grid: tuple[int, int]) -> None:
        self.norm, self.paint, self.grid = plain.norm, Linear.of(plain.paint), grid

    def table(self, noise: Tensor) -> tuple[Affine, ...]:
        """Nothing, as in the stem."""
        return ()

    def __call__(self, tokens: Tensor, skips: tuple[Tensor, ...], table: tuple[Affine, ...]) -> Tensor:
        patches = self.paint(self.norm(tokens)).transpose(1, 2).unflatten(2, self.grid)
        return F.pixel_shuffle(patches, REDUCTION)


class ResidualBlock:
    """`worldsim.models.stems.ResidualBlock`; the noise level's scale and shift are the second normalisation's own."""

    def __init__(self, plain: stems.ResidualBlock) -> None:
        self.plain = plain
        self.groups = plain.norm_1.num_groups
        self.affine = (plain.norm_1.weight.detach(), plain.norm_1.bias.detach(), plain.norm_1.eps)
        self.conv_1, self.conv_2 = Convolution.of(plain.conv_1), Convolution.of(plain.conv_2)

    def table(self, noise: Tensor) -> Affine:
        """noise: (1, dim) -> scale and shift of the second normalisation."""
        scale, shift = self.plain.noise(noise)[0].float().chunk(2)
        norm = self.plain.norm_2
        weight, bias = norm.weight * (1 + scale), norm.bias * (1 + scale) + shift
        return weight.to(noise.dtype), bias.to(noise.dtype)

    def __call__(self, x: Tensor, affine: Affine) -> Tensor:
        h = self.conv_1(_activated(x, self.groups, *self.affine))
        return self.conv_2(_activated(h, self.groups, *affine)).add_(x)


class ConvStem:
    """`worldsim.models.stems.ConvStem`."""

    def __init__(self, plain: stems.ConvStem) -> None:
        self.enter = halving(plain.enter)
        self.down, self.leave = Convolution.of(plain.down), Convolution.of(plain.leave)
        self.fine, self.coarse = ResidualBlock(plain.fine), ResidualBlock(plain.coarse)

    def table(self, noise: Tensor) -> tuple[Affine, ...]:
        """noise: (1, dim) -> what the two residual blocks make of it."""
        return self.fine.table(noise), self.coarse.table(noise)

    def __call__(self, frames: Tensor, table: tuple[Affine, ...]) -> Entered:
        fine = self.fine(self.enter(frames.contiguous(memory_format=torch.channels_last)), table[0])
        coarse = self.coarse(self.down(fine), table[1])
        return Entered(self.leave(coarse).permute(0, 2, 3, 1).flatten(1, 2), (fine, coarse))


class ConvHead:
    """`worldsim.models.stems.ConvHead`."""

    def __init__(self, plain: stems.ConvHead, grid: tuple[int, int]) -> None:
        self.norm, self.grid = plain.norm, grid
        self.enter = _shuffling(plain.enter.weight, plain.enter.bias)
        self.up = _shuffling(plain.up.weight.flatten(1), plain.up.bias)
        self.join_coarse, self.join_fine = Convolution.of(plain.join_coarse), Convolution.of(plain.join_fine)
        self.coarse, self.fine = ResidualBlock(plain.coarse), ResidualBlock(plain.fine)
        self.leave = Convolution.of(plain.leave)

    def table(self, noise: Tensor) -> tuple[Affine, ...]:
        """noise: (1, dim) -> what the two residual blocks make of it."""
        return self.coarse.table(noise), self.fine.table(noise)

    def __call__(self, tokens: Tensor, skips: tuple[Tensor, ...], table: tuple[Affine, ...]) -> Tensor:
        fine, coarse = skips
        x = _shuffled(self.enter(self.norm(tokens)).unflatten(1, self.grid))
        x = self.coarse(self.join_coarse(torch.cat((x, coarse), dim=1)), table[0])
        x = _shuffled(self.up(x.permute(0, 2, 3, 1)))
        x = self.fine(self.join_fine(torch.cat((x, fine), dim=1)), table[1])
        return F.pixel_shuffle(self.leave(x), 2)


def _activated(x: Tensor, groups: int, scale: Tensor, shift: Tensor, eps: float = 1e-5) -> Tensor:
    """SiLU of normed groups of channels."""
    if compiles_for_cpu(x):
        return _traced(x, groups, scale, shift, eps)
    if scale.dim() > 1:  # two frames in one pass, each at a noise level of its own
        scale, shift = (each.transpose(1, 2)[..., None] for each in (scale, shift))
        return F.silu(torch.addcmul(shift, F.group_norm(x, groups, eps=eps), scale), inplace=True)
    return F.silu(F.group_norm(x, groups, scale, shift, eps), inplace=True)


def _traced(x: Tensor, groups: int, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    """`_activated` as the compiler makes the quickest loops of it: sums of whole rows of channels, where torch's own
    norm goes through each group's few channels by themselves."""
    pixels = x.permute(0, 2, 3, 1).flatten(1, 2).float()

    def mean_of(values: Tensor) -> Tensor:
        """(B, 1, C), of each channel's group."""
        each = values.mean(1).unflatten(1, (groups, -1))
        return each[:, :, None].expand(-1, -1, each.shape[2], -1).mean(3).flatten(1)[:, None]

    mean = mean_of(pixels)
    variance = (mean_of(pixels.square()) - mean.square()).clamp(min=0)
    # As exponential and logarithm the compiler works it out once a channel, not once a pixel.
    gain = torch.exp(-0.5 * torch.log(variance + eps)) * scale
    y = F.silu(pixels * gain + (shift - mean * gain)).to(x.dtype)
    return y.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)


STEMS = {stems.PatchStem: PatchStem, stems.ConvStem: ConvStem}
HEADS = {stems.PatchHead: PatchHead, stems.ConvHead: ConvHead}


def halving(plain: nn.Conv2d, activation: str = "none") -> Convolution | Unshuffled:
    """A 3x3 convolution of what `pixel_unshuffle` by 2 makes of a frame (B, C, H, W); on a CPU one of 6x6 pixels of
    the frame itself. A GPU's tensor cores want more channels than a frame has."""
    if plain.weight.device.type != "cpu":
        return Unshuffled(Convolution.of(plain, activation))
    weight = plain.weight.unflatten(1, (-1, 2, 2)).permute(0, 1, 4, 2, 5, 3)
    weight = weight.flatten(4, 5).flatten(2, 3)
    return Convolution(weight, plain.bias, stride=2, padding=2, activation=activation)


class Unshuffled:
    """`pixel_unshuffle` by 2 and a convolution."""

    def __init__(self, convolution: Convolution) -> None:
        self.convolution = convolution

    def __call__(self, frames: Tensor) -> Tensor:
        return self.convolution(F.pixel_unshuffle(frames, 2).contiguous(memory_format=torch.channels_last))


def _shuffling(weight: Tensor, bias: Tensor) -> Linear:
    """A layer for `_shuffled`: its outputs, which `pixel_shuffle` wants as (channel, row, column), channel last."""
    order = torch.arange(len(weight), device=weight.device).unflatten(0, (-1, 4)).T.flatten()
    return Linear(weight[order], bias[order])


def _shuffled(x: Tensor) -> Tensor:
    """`pixel_shuffle` by 2 of (B, h, w, 4C), the channel last: channels-last (B, C, 2h, 2w)."""
    batch, height, width = x.shape[:3]
    x = x.unflatten(3, (2, 2, -1)).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, 2 * height, 2 * width, -1).permute(0, 3, 1, 2)
