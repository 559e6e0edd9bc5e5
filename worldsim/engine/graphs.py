"""`worldsim.models.dit.CausalDiT` for rollouts on a GPU: each of its passes launched at once, as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from worldsim.cache import KVCache
from worldsim.models.dit import CausalDiT

Answer = Tensor | tuple[Tensor, ...] | None

WARMUP_CALLS = 2
"""Before a recording, which must meet no library that still has to load its kernels."""


class GraphedDiT:
    """The same answers as the plain network, without gradient; one rollout at a time.

    A pass over few worlds takes a GPU a millisecond and the CPU many times that to launch; a graph has one launch.
    The graphs read the weights where they lie, so that a change in place (an optimiser's step, `load_state_dict`) is
    seen by the next call. They are recorded at the first `new_cache` and again where its number of worlds, the autocast
    around it or the place of a weight is another than before. Sizes are those of `new_cache`; frames and actions are
    float32. Nothing here waits for the GPU but a recording.

    compiled: fewer kernels, the answers equal up to rounding, a minute of compiling at the first rollout; else the
    kernels are the plain network's.
    """

    def __init__(self, plain: CausalDiT, *, compiled: bool) -> None:
        self.plain = plain
        self.passes = (plain.forward, plain.commit)
        if compiled:
            self.passes = tuple(torch.compile(each, dynamic=False) for each in self.passes)
        self.cache: KVCache | None = None
        self.recorded_for: tuple[object, ...] = ()

    def new_cache(self, worlds: int) -> KVCache:
        """An empty memory for `worlds` worlds, the only one that the other calls take. It is the one handed out before,
        changed, where the graphs are the same."""
        places = (weight.data_ptr() for weight in self.plain.parameters())
        wanted = (worlds, _autocast_dtype(), *places)
        if wanted != self.recorded_for:
            self._record(worlds)
            self.recorded_for = wanted
        self.cache.forget()
        return self.cache

    def __call__(self, x_t: Tensor, sigma: Tensor, action: Tensor, cache: KVCache, *, leave: bool = False) -> Tensor:
        """As `CausalDiT.forward`; one graph serves both, so that every call leaves."""
        self._check(cache)
        return self.paint(x_t, sigma, action).clone()

    def keep(self, x_0: Tensor, cache: KVCache) -> None:
        """As `CausalDiT.keep`."""
        self._check(cache)
        self.keep_last(x_0)

    def commit(self, x_0: Tensor, action: Tensor | None, cache: KVCache) -> None:
        """As `CausalDiT.commit`."""
        self._check(cache)
        if action is None:
            self.write_first(x_0)
        else:
            self.write(x_0, action)

    def _record(self, worlds: int) -> None:
        plain, cache = self.plain, self.plain.new_cache(worlds)
        forward, commit = self.passes
        frame = cache.previous.float()
        sigma, action = frame.new_zeros(worlds), frame.new_zeros(worlds, plain.config.action_size)
        self.cache = cache
        self.paint = Recorded(lambda *given: forward(*given, cache, leave=True), frame, sigma, action)
        self.write = Recorded(lambda *given: commit(*given, cache), frame, action)
        self.keep_last = Recorded(lambda x_0: plain.keep(x_0, cache), frame)
        # Once a rollout: not worth the time to compile it.
        self.write_first = Recorded(lambda x_0: plain.commit(x_0, None, cache), frame)

    def _check(self, cache: KVCache) -> None:
        if cache is not self.cache:
            raise ValueError("CUDA graphs play in one cache; this is another: take the one of their last new_cache()")


class Recorded:
    """One pass as a CUDA graph over inputs at fixed places; what it changes beside, it changes at every call."""

    @torch.no_grad()
    def __init__(self, work: Callable[..., Answer], *inputs: Tensor) -> None:
        self.inputs = [each.clone() for each in inputs]
        self.graph = torch.cuda.CUDAGraph()
        with _autocast_without_memory():
            _warm_up(lambda: work(*self.inputs))
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                self.answer = work(*self.inputs)

    def __call__(self, *given: Tensor) -> Answer:
        """What the pass answers; the next call overwrites it."""
        for place, each in zip(self.inputs, given, strict=True):
            place.copy_(each, non_blocking=True)
        self.graph.replay()
        return self.answer


def _warm_up(work: Callable[[], object]) -> None:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARMUP_CALLS):
            work()
    torch.cuda.current_stream().wait_stream(stream)


def _autocast_dtype() -> torch.dtype | None:
    return torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None


def _autocast_without_memory() -> AbstractContextManager:
    """The autocast of here, but one that keeps no weight that it has cast.

    A graph recorded with a kept one would play on with the weights of that moment, from memory that is soon another's.
    Without, the casts are part of the graph and read the weights anew at every call.
    """
    dtype = _autocast_dtype()
    # No autocast at all where there is none: what was compiled outside would be compiled once more.
    return nullcontext() if dtype is None else torch.autocast("cuda", dtype=dtype, cache_enabled=False)
