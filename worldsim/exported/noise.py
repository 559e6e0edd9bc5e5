"""The numbers of `worldsim.noise` for one world, drawn in numpy: the same bits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
END_STREAM = 0x656E64
"""As `worldsim.world_model.END_STREAM`."""
MIXERS = ((30, np.uint64(0xBF58476D1CE4E5B9)), (27, np.uint64(0x94D049BB133111EB)))
"""Shift and factor of each round of SplitMix64's finaliser (Steele, Lea, Flood 2014, fig. 19)."""


@dataclass(frozen=True)
class Quantiles:
    """The table of `worldsim.noise`: Gaussian quantile at each bin's lower edge, its slope, both (bins,) float32."""

    edges: np.ndarray
    slopes: np.ndarray

    @property
    def fine_bits(self) -> int:
        """Bins for each halving of the tail, as a power of two; it halves 32 times, the last bin is cut off."""
        return ((len(self.edges) + 1) // 32).bit_length() - 1

    def normal_of(self, bits: np.ndarray) -> np.ndarray:
        """Unit Gaussian numbers float32 of uniform uint32 bits, as `worldsim.noise.normal_of`."""
        tail = ((bits & 0x7FFFFFFF) | 1).astype(np.int32).astype(np.float32).view(np.uint32)
        low = 23 - self.fine_bits
        within = (tail & ((1 << low) - 1)).astype(np.float32)
        place = (tail >> low) - (127 << self.fine_bits)
        magnitude = self.edges[place] + self.slopes[place] * within
        return (magnitude.view(np.uint32) | (bits & 0x80000000)).view(np.float32)


@dataclass
class Stream:
    """Where the noise of a world stands. seed: of which the low 64 bits count; used: words drawn so far."""

    seed: int
    used: int = 0

    def draw(self, shape: Sequence[int], quantiles: Quantiles) -> np.ndarray:
        """Change the stream: unit Gaussian noise of that shape, float32."""
        size = math.prod(shape)
        words = (size + 1) // 2
        steps = np.arange(self.used + 1, self.used + words + 1, dtype=np.uint64)
        self.used += words
        start = _mix(np.array([self.seed % 2**64], np.uint64) ^ GOLDEN)
        bits = _mix(start + steps * GOLDEN).astype("<u8").view("<u4")
        return quantiles.normal_of(bits)[:size].reshape(shape)


def _mix(words: np.ndarray) -> np.ndarray:
    for shift, factor in MIXERS:
        words = (words ^ (words >> np.uint64(shift))) * factor
    return words ^ (words >> np.uint64(31))
