"""What a whole process does so that its games run evenly."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator

SWITCH_S = 0.001
"""Longest time that one thread keeps the interpreter from another; Python's own 5 ms show as late frames."""


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """While games run: the garbage collector passes over what there is by now, and threads take turns quickly.

    With torch loaded, a full collection looks at so many objects that the picture stands still for 0.2 s.
    """
    usual_s = sys.getswitchinterval()
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(min(SWITCH_S, usual_s))
    try:
        yield
    finally:
        sys.setswitchinterval(usual_s)
        gc.unfreeze()
