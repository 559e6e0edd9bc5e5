"""The processes that `torchrun` starts to train one network together; without it a process is alone, and the first."""

from __future__ import annotations

import atexit
import json
import os
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

T = TypeVar("T")

LONGEST_WAIT = timedelta(days=2)
"""While the first process records a game or scores a network, the others wait. One that dies is `torchrun`'s to see."""


class StoppedElsewhere(RuntimeError):
    """The first process could not go on; its own error says why."""


def join() -> None:
    """Meet the other processes that `torchrun` started, where it did; once, until this one ends."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        return
    # Numbers on the CPU travel by gloo, even where networks and gradients are on GPUs.
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=LONGEST_WAIT)
    atexit.register(_leave)


def count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This one's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Whether this process is the one that writes, scores and shows progress."""
    return rank() == 0


def own_device(chosen: torch.device) -> torch.device:
    """The device of this process: several that chose a GPU have one each, made the current one. ValueError where none
    is left."""
    return _own_gpu() if chosen.type == "cuda" and count() > 1 else chosen


def ask_first(work: Callable[[], T]) -> T:
    """What `work` answers in the first process, which alone calls it; data for JSON, the same in every process.

    Where it raises there, the others raise StoppedElsewhere.
    """
    if count() == 1:
        return work()
    if not is_first():
        words = _from_first(b"")
        if not words:
            raise StoppedElsewhere("the first process stopped; its message says why")
        return json.loads(words)
    words = b""
    try:
        answer = work()
        words = json.dumps(answer).encode()
    finally:
        _from_first(words)
    return answer


def rows(whole: Tensor, axis: int = 0) -> Tensor:
    """This process's clips of a whole batch's, along that axis: every n-th of n processes', so that the first clips of
    the batch, which some stages treat in another way, are spread evenly."""
    if count() == 1:
        return whole
    return whole.transpose(0, axis)[rank() :: count()].transpose(0, axis).contiguous()


def whole(mine: Tensor) -> Tensor:
    """The whole batch (n B, ...) of which every process has its `rows` (B, ...). No gradient passes."""
    if count() == 1:
        return mine
    parts = [torch.empty_like(mine) for _ in range(count())]
    dist.all_gather(parts, mine.contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)


def mean(mine: Tensor) -> Tensor:
    """Mean over all processes. No gradient passes."""
    if count() == 1:
        return mine
    total = mine.detach().clone()
    dist.all_reduce(total)
    return total / count()


def first_clips(share: float, clips: int, setting: str) -> int:
    """How many of this process's `clips` are among the first `share` of the whole batch.

    ValueError, naming the setting, where a part of the clips would be none of them or all, and where the processes
    would differ in it: they have to keep step.
    """
    chosen = round(share * clips * count())
    if 0 < share < 1 and chosen in (0, clips * count()):
        seen = f"{setting}={share} of {clips * count()} clips at once is {'all' if chosen else 'none'} of them"
        raise ValueError(f"{seen}; use a larger loop.batch, a smaller loop.accumulate or another share")
    if chosen % count():
        seen = f"{setting}={share} takes {chosen} of {clips * count()} clips"
        raise ValueError(f"{seen}, which {count()} processes cannot share evenly; choose another share or loop.batch")
    return chosen // count()


def _leave() -> None:
    # Gloo's threads drop their last tensors a moment late and need the interpreter for it; one that is gone by then
    # aborts the process, with all its work done (seen in 1 of 30 ends with torch 2.13).
    time.sleep(0.5)
    dist.destroy_process_group()


def _own_gpu() -> torch.device:
    local, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if local >= there:
        raise ValueError(f"process {local} of this machine has no GPU of its own among {there}; start fewer processes")
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def _from_first(words: bytes) -> bytes:
    """The words of the first process, whose arguments alone count."""
    size = torch.tensor(len(words))
    dist.broadcast(size, src=0)
    letters = torch.zeros(int(size), dtype=torch.uint8)
    if is_first() and words:
        letters = torch.frombuffer(bytearray(words), dtype=torch.uint8)
    if len(letters):
        dist.broadcast(letters, src=0)
    return letters.numpy().tobytes()
