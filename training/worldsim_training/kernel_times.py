"""Where the time of a piece of work goes on its device, kernel by kernel."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

ROWS = 25


def table(work: Callable[[], float], repeats: int, device: torch.device) -> str:
    """The kernels that take most time on a GPU, on a CPU the operators, as text; per repeat of the work.

    work: does the work `repeats` times and answers how many seconds it took. Where a GPU is busy for less than that,
    it waited for the CPU to launch. The profiler slows the CPU: compare that with a run without it.
    """
    on_gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as profiler:
        seconds = work()
    kind = DeviceType.CUDA if on_gpu else DeviceType.CPU
    found = [each for each in profiler.key_averages() if each.device_type == kind]
    times_us = {each.key: each.self_device_time_total if on_gpu else each.self_cpu_time_total for each in found}
    calls = {each.key: each.count for each in found}
    busy_ms = sum(times_us.values()) / repeats / 1e3
    lines = [f"{1e3 * seconds / repeats:.2f} ms an update, {busy_ms:.2f} of them in {len(found)} kinds of kernels"]
    lines += ["   share       ms    calls  kernel"]
    for key in sorted(times_us, key=times_us.__getitem__, reverse=True)[:ROWS]:
        ms = times_us[key] / repeats / 1e3
        lines.append(f"{ms / busy_ms:8.1%} {ms:8.3f} {calls[key] / repeats:8.1f}  {key}")
    return "\n".join(lines)
