"""Faults of one world among many: what went wrong, and a wait for a caller's function that is bounded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

StartLoader = Callable[[int, np.random.Generator], Mapping[str, Any]]
"""(world, generator) -> reset options `start`, or `frames` and `actions`: where that world begins its next episode."""

NOT_FINITE = "a number in its frame, reward or end is not finite"


def describe(error: BaseException) -> str:
    """An exception as one line."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def fault_infos(faults: Mapping[int, str], worlds: int) -> dict[str, np.ndarray]:
    """`fault`, (N,) objects, the text or None, with its mask `_fault`; nothing where there is no fault."""
    if not faults:
        return {}
    texts = np.full(worlds, None, dtype=object)
    for world, text in faults.items():
        texts[world] = text
    return {"fault": texts, "_fault": texts != None}  # noqa: E711 - of each entry


class BoundedLoader:
    """A caller's `StartLoader`, whose error or silence is the fault of one world alone.

    patience_s: seconds that the loaders of one reset are waited for, all together. Each runs in a thread of its own,
    with a generator of its own. A thread cannot be ended from outside: one that hangs stays behind, what it returns
    later is dropped, and its world's loader is not asked again before it has returned.
    """

    def __init__(self, load: StartLoader, patience_s: float) -> None:
        if not callable(load):
            raise TypeError(f"start_loader is of type {type(load).__name__}; give a function of world and generator")
        if not patience_s > 0:
            raise ValueError(f"patience_s={patience_s!r}; give the seconds to wait for a start loader, above 0")
        self.load, self.patience_s = load, patience_s
        self._threads: dict[int, threading.Thread] = {}

    def __call__(self, rngs: Mapping[int, np.random.Generator]) -> tuple[dict[int, Any], dict[int, str]]:
        """What the loaders of these worlds returned, and the faults of the others."""
        answers: dict[int, Any] = {}
        faults: dict[int, str] = {}
        asked = [world for world in rngs if world not in self._threads or not self._threads[world].is_alive()]
        for world in asked:
            given = (world, rngs[world], answers, faults)
            self._threads[world] = threading.Thread(target=self._ask, args=given, daemon=True)
            self._threads[world].start()
        deadline = time.monotonic() + self.patience_s
        for world in asked:
            self._threads[world].join(max(0.0, deadline - time.monotonic()))
        # Copies: a loader that comes late writes into dictionaries that nobody reads any more.
        answers, faults = dict(answers), dict(faults)
        silent = {world: self._silence() for world in rngs if world not in answers and world not in faults}
        return answers, faults | silent

    def _ask(self, world: int, rng: np.random.Generator, answers: dict[int, Any], faults: dict[int, str]) -> None:
        try:
            answers[world] = self.load(world, rng)
        except BaseException as error:  # even an exit ends no more than this thread
            faults[world] = f"start loader: {describe(error)}"

    def _silence(self) -> str:
        return f"start loader: no answer within {self.patience_s:g} s"
