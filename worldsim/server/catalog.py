"""The worlds that a server offers: facts and a picture of each, and its environments."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import gymnasium as gym
from PIL import Image

from worldsim.worlds import world_path

WORLD = "worldsim/World-v0"  # any world, by name or folder
INDEX, STARTS = "model_index.json", "starts.png"


@dataclass(frozen=True)
class Entry:
    """A world on the menu. picture: its first start frame, a PNG."""

    world: str
    title: str
    detail: str
    picture: bytes


def entry(world: str) -> Entry:
    """The entry of a shipped world or a world folder; loads no weights. ValueError in one line for a damaged one."""
    folder = world_path(world)
    try:
        facts = json.loads((folder / INDEX).read_text(encoding="utf-8"))["world"]
        name, height, width, fps = str(facts["name"]), int(facts["height"]), int(facts["width"]), facts["fps"]
        out = io.BytesIO()
        with Image.open(folder / STARTS) as starts:
            starts.crop((0, 0, width, height)).convert("RGB").save(out, "PNG")
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ValueError(f"world folder '{folder}' is damaged ({error}); restore it from where it came") from None
    return Entry(world, name.title(), f"{width}x{height}, {fps} frames a second", out.getvalue())


class Catalog:
    """Worlds by their place on the menu; each is loaded once, when it is first wanted, and its weights are shared.

    steps, device, compile: of every environment, as `WorldEnv` takes them.
    """

    def __init__(
        self, worlds: Sequence[str], *, steps: int | None = None, device: str = "cpu", compile: bool = False
    ) -> None:
        self.entries = [entry(world) for world in worlds]
        self._asked = {"steps": steps, "device": device, "compile": compile}
        self._lock = threading.Lock()
        self._first: dict[int, gym.Env] = {}

    def open(self, place: int):
        """A new environment of the world at that place, from any thread."""
        with self._lock:
            if place not in self._first:
                env = gym.make(WORLD, world=self.entries[place].world, **self._asked).unwrapped
                env.reset(seed=0)
                self._first[place] = env
            (env,) = self._first[place].fork(1)
            return env
