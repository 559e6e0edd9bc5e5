"""Random numbers for a batch of clips, of which each process takes its own, so that n processes see what one would.

Every function draws for the whole batch: `shape` is that of this process's clips, which lie along `axis`. The generator
is in the same state in every process before and after.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from worldsim_training import processes


def normal(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Unit Gaussian noise."""
    return processes.rows(torch.randn(_whole(shape), device=generator.device, generator=generator))


def uniform(shape: Sequence[int], generator: torch.Generator, *, axis: int = 0) -> Tensor:
    """Uniform in [0, 1)."""
    return processes.rows(torch.rand(_whole(shape, axis), device=generator.device, generator=generator), axis)


def integers(end: int, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Uniform among 0 .. end - 1, int64."""
    return processes.rows(torch.randint(end, _whole(shape), device=generator.device, generator=generator))


def part(share: float, clips: int, generator: torch.Generator) -> int:
    """How many of this process's `clips` are `share` of them: where that is no whole number the one below or above it,
    by chance, so that it is right on average however few they are. All processes get the same."""
    whole = int(share * clips + 1e-9)
    rest = share * clips - whole
    if rest < 1e-6:
        return whole
    return whole + int(torch.rand((), device=generator.device, generator=generator) < rest)


def _whole(shape: Sequence[int], axis: int = 0) -> tuple[int, ...]:
    return (*shape[:axis], shape[axis] * processes.count(), *shape[axis + 1 :])
