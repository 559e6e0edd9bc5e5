"""Noise of many worlds at once, in which each world's numbers depend on its own seed and on nothing else.

A number is a function of seed and place in the world's stream (a counter-based generator), so one call draws for all
worlds, in any order, on any device. Up to the table of quantiles, everything is whole-number arithmetic and float32
operations that IEEE 754 rounds exactly: a world's noise is the same bits in any place of a batch, on CPU and GPU.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

GOLDEN = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as int64: 2^64 over the golden ratio
FINE_BITS = 7
"""Bins for each halving of the tail's probability, as a power of two."""
MAGNITUDE_BITS = 31


@dataclass
class NoiseStream:
    """Where the noise of B worlds stands. seeds: (B,) int64; used: (B,) int64, words of each stream drawn so far."""

    seeds: Tensor
    used: Tensor

    @classmethod
    def of(cls, seeds: Sequence[int], device: torch.device | str = "cpu") -> NoiseStream:
        """Streams at their beginning, one for each seed, of which the low 64 bits count."""
        signed = [(int(seed) + 2**63) % 2**64 - 2**63 for seed in seeds]
        seeds = torch.tensor(signed, dtype=torch.int64, device=device)
        return cls(seeds, torch.zeros_like(seeds))

    def __len__(self) -> int:
        return len(self.seeds)

    def draw(self, shape: Sequence[int]) -> Tensor:
        """Change the streams: unit Gaussian noise (B, *shape) float32, each world's from its own."""
        size = math.prod(shape)
        words = (size + 1) // 2
        steps = self.used[:, None] + torch.arange(1, words + 1, device=self.used.device)
        self.used += words
        mixed = mix(mix(self.seeds ^ GOLDEN)[:, None] + steps * GOLDEN)
        halves = mixed.view(torch.int32)  # two numbers a word
        return normal_of(halves)[:, :size].reshape(len(self), *shape)

    def apart(self, number: int) -> NoiseStream:
        """Other streams of the same worlds, at the same place: what they draw leaves these as they are."""
        return NoiseStream(self.seeds ^ number, self.used.clone())

    def clone(self) -> NoiseStream:
        """An independent copy that draws the same numbers."""
        return NoiseStream(self.seeds.clone(), self.used.clone())

    def select(self, worlds: Sequence[int]) -> NoiseStream:
        """An independent copy of these worlds' streams, in this order."""
        rows = torch.as_tensor(list(worlds), device=self.used.device)
        return NoiseStream(self.seeds[rows], self.used[rows])

    def put(self, worlds: Sequence[int], other: NoiseStream) -> None:
        """Change these worlds' streams into copies of those of `other`, one each."""
        rows = torch.as_tensor(list(worlds), device=self.used.device)
        self.seeds[rows], self.used[rows] = other.seeds, other.used

    @classmethod
    def join(cls, streams: Sequence[NoiseStream]) -> NoiseStream:
        """A copy of all streams, in order."""
        return cls(*(torch.cat([getattr(each, name) for each in streams]) for name in ("seeds", "used")))

    def to(self, device: torch.device | str) -> NoiseStream:
        """The same streams on that device, a copy only where it is another one."""
        return NoiseStream(self.seeds.to(device), self.used.to(device))


def mix(z: Tensor) -> Tensor:
    """A one-to-one scrambling of int64 words: the finaliser of SplitMix64 (Steele, Lea, Flood 2014, fig. 19)."""
    z = (z ^ _shifted(z, 30)) * -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
    z = (z ^ _shifted(z, 27)) * -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
    return z ^ _shifted(z, 31)


def normal_of(bits: Tensor) -> Tensor:
    """Unit Gaussian numbers float32 of uniform int32 bits: the sign, and the quantile of the other 31 bits.

    The quantile is read off a table, linear in between. Its bins narrow with the tail's probability, so the error is
    below 1e-5 everywhere out to the largest number, 6.2.
    """
    table, slope = quantiles(bits.device)
    tail = ((bits & 0x7FFFFFFF) | 1).float().view(torch.int32)  # its probability times 2^31, above 0
    low = 23 - FINE_BITS
    within = (tail & ((1 << low) - 1)).float()
    place = (tail >> low).sub_(127 << FINE_BITS).flatten()
    magnitude = table.index_select(0, place) + slope.index_select(0, place).mul_(within.flatten())
    return (magnitude.view(torch.int32) | (bits & -0x80000000).flatten()).view(torch.float32).view(bits.shape)


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Right shift that moves zeros in; torch's own repeats the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


@functools.cache
def quantiles(device: torch.device) -> tuple[Tensor, Tensor]:
    """Gaussian quantile at the lower edge of each bin of the tail's probability, and its slope over the bin's parts."""
    exponents = torch.arange(MAGNITUDE_BITS + 1, dtype=torch.float64)
    fractions = torch.arange(2**FINE_BITS, dtype=torch.float64) / 2**FINE_BITS
    tail = (torch.exp2(exponents)[:, None] * (1 + fractions)).flatten() / 2**MAGNITUDE_BITS
    edges = -torch.special.ndtri((tail / 2).clamp(max=0.5))
    slopes = edges.diff() / 2 ** (23 - FINE_BITS)
    return edges[:-1].float().to(device), slopes.float().to(device)
