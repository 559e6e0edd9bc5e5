"""Where the time of a piece of work goes on its device, kernel by kernel."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

ROWS = 25
NAME = 160
"""Characters of a kernel's name that are shown; templates run on for thousands."""


def table(work: Callable[[], float], repeats: int, device: torch.device) -> str:
    """The kernels that take most time on a GPU, on a CPU the operators, as text; per repeat of the work.

    work: does the work `repeats` times and answers how many seconds it took. Where a GPU is busy for less than that,
    it waited for the CPU to launch. The profiler slows the CPU: compare that with a run without it.
    """
    on_gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as profiler:
        seconds = work()
    kind = DeviceType.CUDA if on_gpu else DeviceType.CPU
    found = [each for each in profiler.key_averages() if each.device_type == kind and not each.is_user_annotation]
    times_us = [each.self_device_time_total if on_gpu else each.self_cpu_time_total for each in found]
    busy_us = sum(times_us)
    head = f"{1e3 * seconds / repeats:.2f} ms an update, {busy_us / repeats / 1e3:.2f} of them in {len(found)} kernels"
    lines = [head, "   share       ms    calls  kernel"]
    by_time = sorted(zip(times_us, found, strict=True), key=lambda pair: pair[0], reverse=True)
    for us, each in by_time[:ROWS]:
        lines.append(f"{us / busy_us:8.1%} {us / repeats / 1e3:8.3f} {each.count / repeats:8.1f}  {each.key[:NAME]}")
    return "\n".join(lines)
