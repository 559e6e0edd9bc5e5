"""`worldsim.engine.network.PackedDiT` on a GPU with its passes compiled: many small kernels become few."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from worldsim.cache import KVCache
from worldsim.engine.network import Memory, PackedDiT


class GpuDiT:
    """The same answers as the packed network up to rounding; each number of worlds is compiled at its first pass, which
    takes about a minute, with frames in one layout, for another would be compiled once more. Where that fails a warning
    says so in one line and the packed network plays."""

    def __init__(self, packed: PackedDiT, *, backend: str = "inductor") -> None:
        self.packed = packed
        if packed.plain.device.type == "cuda":
            packed.memory = _gpu_memory()
        self.passes = {work: torch.compile(work, dynamic=False, backend=backend) for work in self._plain()}

    @property
    def engine(self) -> str:
        """What paints: "compiled", or "packed" once compiling has failed."""
        return "compiled" if self.passes else "packed"

    def new_cache(self, worlds: int) -> KVCache:
        """As `CausalDiT.new_cache`."""
        return self.packed.new_cache(worlds)

    def __call__(self, x_t: Tensor, sigma: Tensor, action: Tensor, cache: KVCache) -> Tensor:
        """As `CausalDiT.forward`, not compiled: the noise levels have to come back from the GPU."""
        return self.packed(x_t, sigma, action, cache)

    @torch.no_grad()
    def at_level(self, x_t: Tensor, sigma: float, action: Tensor, cache: KVCache, *, leave: bool = False) -> Tensor:
        """As `PackedDiT.at_level`."""
        work = self.packed.leave_after if leave else self.packed.denoise_after
        return self._run(work, _in_order(x_t), self.packed.level_of(sigma), _in_order(action), cache)

    @torch.no_grad()
    def keep(self, x_0: Tensor, cache: KVCache) -> None:
        """As `CausalDiT.keep`."""
        self._run(self.packed.push_pending, _in_order(x_0), cache)

    @torch.no_grad()
    def commit(self, x_0: Tensor, action: Tensor | None, cache: KVCache) -> None:
        """As `CausalDiT.commit`; the first frame of a world is not compiled."""
        if action is None:
            self.packed.commit(x_0, None, cache)
        else:
            self._run(self.packed.write_after, _in_order(x_0), self.packed.level_of(0.0), _in_order(action), cache)

    def _plain(self) -> tuple[Callable, ...]:
        packed = self.packed
        return packed.denoise_after, packed.leave_after, packed.write_after, packed.push_pending

    def _run(self, work: Callable[..., Tensor | None], *given) -> Tensor | None:
        if work not in self.passes:
            return work(*given)
        try:
            return self.passes[work](*given)
        except Exception as error:  # whatever a compiler may raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            warnings.warn(f"compiling for the GPU failed ({reason}); playing without", stacklevel=3)
            self.passes, self.packed.memory = {}, Memory
            return work(*given)


def _gpu_memory() -> type[Memory]:
    """Attention through time in kernels of its own, or as it is where torch has no compiler for a GPU."""
    try:
        from worldsim.engine.gpu_memory import GpuMemory
    except ImportError:
        return Memory
    return GpuMemory


def _in_order(x: Tensor) -> Tensor:
    """A copy in the usual layout. `contiguous` leaves the strides of an axis of size one as they are."""
    return x.clone(memory_format=torch.contiguous_format)
