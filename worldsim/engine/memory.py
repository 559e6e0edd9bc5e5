"""The C library's memory, kept by the process between frames."""

from __future__ import annotations

import ctypes

MMAP_THRESHOLD, TRIM_THRESHOLD, TOP_PAD, MAX_FAST = -3, -1, -2, 1
"""glibc's numbers of what `mallopt` sets (malloc.h)."""

LARGEST_BYTES = 32 << 20
"""The largest block that glibc takes from its heap instead of mapping it anew; more it refuses."""


def keep_memory() -> bool:
    """Change the process: freed memory is kept for the next frame instead of given back. Whether the C library can.

    A pass allocates blocks of up to a few megabytes, hundreds a second; as glibc is set out of the box, many are mapped
    and cleared by the system each time, which was a sixth of a frame's time. At most 32 MB more than needed are kept.
    Small blocks are merged with their neighbours at once: glibc would otherwise put it off and go through all of them
    whenever a larger one is freed, .1 ms of a compiled pass.
    """
    try:
        library = ctypes.CDLL(None)
        tune = library.mallopt
    except (OSError, TypeError, AttributeError):  # no glibc: another system's own allocator
        return False
    wanted = {MMAP_THRESHOLD: LARGEST_BYTES, TRIM_THRESHOLD: 2 * LARGEST_BYTES, TOP_PAD: LARGEST_BYTES, MAX_FAST: 0}
    return all(tune(what, size) == 1 for what, size in wanted.items())
