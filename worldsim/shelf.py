"""What a menu says of a world: a title, a word on it and a picture, read without its weights."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from worldsim.names import titled
from worldsim.world_files import INDEX, STARTS
from worldsim.worlds import world_path


@dataclass(frozen=True)
class Entry:
    """A world on a menu: its name or folder, its title, a word on it and its first start frame (H, W, 3) uint8."""

    world: str
    title: str
    detail: str
    picture: np.ndarray


def entry(world: str) -> Entry:
    """The entry of a shipped world or a world folder. ValueError in one line for a damaged one."""
    from PIL import Image

    folder = world_path(world)
    try:
        facts = json.loads((folder / INDEX).read_text(encoding="utf-8"))["world"]
        title, fps = titled(str(facts["name"]), str(facts["env_id"])), facts["fps"]
        height, width = int(facts["height"]), int(facts["width"])
        with Image.open(folder / STARTS, formats=["PNG"]) as starts:
            picture = np.array(starts.convert("RGB").crop((0, 0, width, height)))
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ValueError(f"world folder '{folder}' is damaged ({error}); restore it from where it came") from None
    return Entry(world, title, f"{width}x{height}, {fps} frames a second", picture)
