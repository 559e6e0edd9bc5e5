"""How many cores paint: as few as do it in time, or as many as painted before; in a forked process one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial

import torch

ENOUGH = 0.75
"""Share of its time within which a frame is painted quickly enough, so that no more threads are tried."""
NEARLY = 1.33
"""Times of the quickest number's that fewer threads may take where they are not quick enough."""
TRIES = 4
"""Frames painted to tell how long one takes. The quickest counts: other programs may want the cores at this moment."""
MOST = 1024
"""Threads that are believed of a file."""


def spare_cores(env, fps: float | None = None) -> None:
    """Change the process: torch takes the fewest of 1, 2, 4 ... threads that paint the world's frames in ENOUGH of
    their time, or else nearly as quickly as any number does; plays some frames of the environment.

    The other cores are left to the screen and to other programs. On processors with matrix units, frames of 64x64 are
    hardly quicker on two cores than on one; and where another program shares one of the two, every pass waits for the
    slower: 95 % of the frames were painted within 47 ms instead of 29. Threads that paint already keep their number. A
    GPU is left as it is, and so is compiled code, which is for a certain number of threads.

    env: a `WorldEnv`; fps: at which it is played, by default the world's own.
    """
    model = env.model
    if model.device.type != "cpu" or model.engine == "compiled":
        return
    enough_s = ENOUGH / (fps or env.metadata["render_fps"])
    env.reset(seed=0)
    taken_s = {}
    for threads in counts(usual_threads()):
        torch.set_num_threads(threads)
        taken_s[threads] = frame_s(env)
        if taken_s[threads] <= enough_s:
            break
    quickest_s = min(taken_s.values())
    torch.set_num_threads(min(threads for threads, seconds in taken_s.items() if seconds <= NEARLY * quickest_s))


def counts(most: int) -> list[int]:
    """1, 2, 4 ... and the most."""
    return [*(2**power for power in range((most - 1).bit_length())), most]


def frame_s(env) -> float:
    """Seconds that a frame takes at least, paint and commit, after one that nobody counts."""
    rest = env.actions.decode(env.actions.from_keys(()))
    taken_s = []
    for _ in range(1 + TRIES):
        started = time.perf_counter()
        _, _, terminated, truncated, _ = env.step(rest)
        taken_s.append(time.perf_counter() - started)
        if terminated or truncated:
            env.reset(seed=0)
    return min(taken_s[1:])


def paint_alone_in_forks() -> None:
    """Change the process: what is forked of it, as by gymnasium's `AsyncVectorEnv`, paints with one thread.

    A fork has none of the threads that OpenMP counts on, and would wait for them for ever.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


@cache
def usual_threads() -> int:
    """Threads that torch takes by itself: as many as cores, or what OMP_NUM_THREADS says."""
    return torch.get_num_threads()


@contextmanager
def threads_of(machine: dict) -> Iterator[None]:
    """Change the process in here: torch takes as many threads as a replay file says painted, on which bits depend."""
    before, threads = torch.get_num_threads(), machine.get("threads")
    if type(threads) is int and 0 < threads <= MOST:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
