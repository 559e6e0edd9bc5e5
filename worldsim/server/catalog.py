"""The worlds that a server offers, with their environments."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import gymnasium as gym

from worldsim.shelf import entry

WORLD = "worldsim/World-v0"  # any world, by name or folder


class Catalog:
    """Worlds by their place on the menu; each is loaded once, when it is first wanted, and its weights are shared.

    fps: at which they are played, None for each world's own; steps, device, compile: of every environment, as
    `WorldEnv` takes them.
    """

    def __init__(
        self,
        worlds: Sequence[str],
        *,
        fps: float | None = None,
        steps: int | None = None,
        device: str = "cpu",
        compile: bool = False,
    ) -> None:
        self.entries = [entry(world) for world in worlds]
        self._fps = fps
        self._asked = {"steps": steps, "device": device, "compile": compile}
        self._lock = threading.Lock()
        self._first: dict[int, gym.Env] = {}

    def open(self, place: int):
        """A new environment of the world at that place, from any thread."""
        from worldsim.cores import spare_cores  # here, because it loads torch

        with self._lock:
            if place not in self._first:
                env = gym.make(WORLD, world=self.entries[place].world, **self._asked).unwrapped
                spare_cores(env, self._fps)
                env.reset(seed=0)
                self._first[place] = env
            (env,) = self._first[place].fork(1)
            return env
