"""Whole frames on a GPU, each half of one (painting, committing) a CUDA graph over memory at one place."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable, Hashable
from typing import Any

from torch import Tensor

from worldsim.cache import KVCache
from worldsim.engine.graphs import Recorded
from worldsim.noise import NoiseStream

Paint = Callable[[Hashable, NoiseStream, Tensor, Tensor, KVCache], tuple[Tensor, Tensor]]
"""(sampler, noise, frame now shown, action, memory) -> next frame and whether it is sound; moves the noise on."""

Commit = Callable[[Tensor, Tensor, Tensor, KVCache, bool], tuple[Tensor, Tensor]]
"""(frame, what the heads see before it, action, memory, whether its last call has left it there) -> reward and log-odds
of the end; changes the memory."""

STAGES = 3
"""Numbers of worlds whose graphs are kept; one more drops those recorded first."""


class FrameGraphs:
    """`paint` and `commit` as they were given, launched at once instead of kernel by kernel.

    A graph reads and writes where it was recorded. So for each number of worlds there is one place for a memory, and
    the worlds that are played live there: a memory is moved in when it is first played, and the one that lived there
    before moves out into tensors of its own, if it still exists. Playing on with the same worlds moves nothing, and
    nothing but a recording waits for the GPU. Tensors are on its device.

    Where a recording fails a warning says so in one line, and that half's kernels are launched one by one.

    record: makes a graph of a function and an example of its inputs, as `Recorded` does.
    """

    def __init__(self, paint: Paint, commit: Commit, *, record: Callable[..., Callable] = Recorded) -> None:
        self._paint, self._commit, self._record = paint, commit, record
        self._stages: dict[int, Stage] = {}
        self._lock = threading.Lock()
        self.works = True
        """Whether recording has not failed yet."""

    def paint(
        self, sampler: Hashable, noise: NoiseStream, last: Tensor, action: Tensor, cache: KVCache
    ) -> tuple[Tensor, Tensor]:
        """As the `paint` that was given."""

        def work(place: KVCache, seeds: Tensor, used: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
            stream = NoiseStream(seeds, used)
            return *self._paint(sampler, stream, *given, place), stream.used

        answer = self._replay(("paint", sampler), work, cache, noise.seeds, noise.used, last, action)
        if answer is None:
            return self._paint(sampler, noise, last, action, cache)
        frame, sound, used = answer
        noise.used.copy_(used)
        return frame, sound

    def commit(
        self, frame: Tensor, before: Tensor, action: Tensor, cache: KVCache, is_pending: bool
    ) -> tuple[Tensor, Tensor]:
        """As the `commit` that was given."""

        def work(place: KVCache, *given: Tensor) -> tuple[Tensor, ...]:
            return self._commit(*given, place, is_pending)

        answer = self._replay(("commit", is_pending), work, cache, frame, before, action)
        return self._commit(frame, before, action, cache, is_pending) if answer is None else answer

    def _replay(
        self, name: Hashable, work: Callable[..., Any], cache: KVCache, *inputs: Tensor
    ) -> tuple[Tensor, ...] | None:
        """Copies of what the graph of that name answers, recorded now where there is none; None where none works."""
        with self._lock:
            stage = self._stage(cache)
            if name not in stage.graphs:
                stage.let_out()  # a recording plays with the memory
                stage.graphs[name] = self._recorded(lambda *given: work(stage.place, *given), *inputs)
            graph = stage.graphs[name]
            if graph is None:
                return None
            stage.let_in(cache)
            return tuple(each.clone() for each in graph(*inputs))

    def _recorded(self, work: Callable[..., Any], *inputs: Tensor) -> Callable[..., tuple[Tensor, ...]] | None:
        try:
            return self._record(work, *inputs)
        except Exception as error:  # of the driver, of a library, of too little memory
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            warnings.warn(f"no CUDA graph here ({reason}); kernels are launched one by one", stacklevel=6)
            self.works = False
            return None

    def _stage(self, cache: KVCache) -> Stage:
        worlds = len(cache.frames)
        if worlds not in self._stages:
            if len(self._stages) >= STAGES:
                del self._stages[next(iter(self._stages))]
            self._stages[worlds] = Stage(cache.clone())
        return self._stages[worlds]


class Stage:
    """The place where so many worlds are played, and the graphs recorded there. place: a memory of that size."""

    def __init__(self, place: KVCache) -> None:
        self.place = place
        self.graphs: dict[Hashable, Callable[..., tuple[Tensor, ...]] | None] = {}
        """By name; None where recording has failed."""
        self._tenant: weakref.ref[KVCache] | None = None

    def let_in(self, cache: KVCache) -> None:
        """Change where a memory lies: here, unless it does already."""
        if cache.previous is not self.place.previous:
            self.let_out()
            cache.move_to(self.place)
            self._tenant = weakref.ref(cache)

    def let_out(self) -> None:
        """Change where the memory lies that was played here, if it still exists: into tensors of its own."""
        tenant = None if self._tenant is None else self._tenant()
        if tenant is not None and tenant.previous is self.place.previous:
            tenant.move_to(self.place.clone())
        self._tenant = None
