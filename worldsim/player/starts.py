"""Where rounds begin: a draw from the seed, a start of the world's own, or a moment of a recording."""

from __future__ import annotations

import hashlib
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

META = "meta.json"
EVERY_FRAMES = 60
"""Frames between two moments of one recorded episode that the key cycles through."""


@dataclass(frozen=True, eq=False)
class Start:
    """One beginning."""

    name: str = "drawn from the seed"
    past: Mapping[str, Any] | None = None
    """The reset options `frames` (K, H, W, 3) uint8 and `actions` (K - 1,); None lets the seed draw a start."""
    real: Mapping[str, Any] | None = None
    """Reset options under which the source game stands at the same moment; None where they are not known."""


class Starts(ABC):
    """Beginnings in a ring. Before the first step along it the seed draws, unless one was asked for."""

    def __init__(self, count: int, at: int | None = None) -> None:
        self._count, self._at = count, at

    def present(self) -> Start:
        """The beginning of the next round."""
        return Start() if self._at is None else self.start(self._at)

    def following(self) -> Start:
        """Go one step along the ring: that beginning."""
        self._at = 0 if self._at is None else (self._at + 1) % self._count
        return self.start(self._at)

    @abstractmethod
    def start(self, index: int) -> Start:
        """One beginning of the ring."""


class WorldStarts(Starts):
    """The start states that a world was saved with. starts: offers `frames` (S, K, H, W, 3) and `actions` (S, K-1)."""

    def __init__(self, starts, at: int | None = None) -> None:
        count = len(starts.frames)
        if at is not None and not 0 <= at < count:
            raise ValueError(f"start {at} is none of this world's; it has 0..{count - 1}")
        super().__init__(count, at)
        self._starts = starts

    def start(self, index: int) -> Start:
        """A start state of the world; its emulator's state was not kept."""
        past = {"frames": self._starts.frames[index], "actions": self._starts.actions[index]}
        return Start(f"start {index} of the world's {self._count}", past)


class RecordedStarts(Starts):
    """Moments of a dataset, held-out ones where it has any.

    folder: of the dataset; asked: "" or "SPLIT/NUMBER" or "SPLIT/NUMBER:FRAME", where the ring begins; past: frames
    before each moment; shape: (H, W, 3) of a frame; env_id: of the game. ValueError or FileNotFoundError in one line
    for anything else.
    """

    def __init__(self, folder: Path, asked: str, *, past: int, shape: tuple[int, ...], env_id: str) -> None:
        self._folder, self._past = folder, past
        meta = read_meta(folder)
        if (seen := meta.get("env_id", env_id)) != env_id:
            raise ValueError(f"{folder} is a recording of {seen}; this world imagines {env_id}")
        if (meta["height"], meta["width"]) != shape[:2]:
            seen = f"{meta['height']}x{meta['width']}"
            raise ValueError(f"frames of {folder} are {seen}; this world's are {shape[0]}x{shape[1]}")
        episodes = {_name(entry): entry for entry in meta["episodes"] if entry["steps"] >= past}
        wanted, _, frame = asked.partition(":")
        if wanted and wanted not in episodes:
            raise ValueError(f"{folder} has no episode '{wanted}' of {past} frames; it has {_some(episodes)}")
        held_out = {name: each for name, each in episodes.items() if each["split"] != "train"}
        ring = (held_out or episodes) | ({wanted: episodes[wanted]} if wanted else {})
        if not ring:
            raise ValueError(f"{folder} has no episode of {past} frames or more")
        self._moments = [(each, at) for each in ring.values() for at in range(past, each["steps"] + 1, EVERY_FRAMES)]
        super().__init__(len(self._moments), self._place(episodes, wanted, frame))

    def start(self, index: int) -> Start:
        """The moment with the frames before it; the source game gets there under the episode's seed and actions."""
        entry, at = self._moments[index]
        frames, actions = _read_episode(self._folder / entry["file"], entry["sha256"])
        first = at - self._past + 1
        past = {"frames": frames[first : at + 1], "actions": actions[first:at]}
        real = {"episode_seed": entry["seed"], "actions": actions[:at], "frame": frames[at]}
        return Start(f"{self._folder.name}:{_name(entry)}:{at}", past, real if entry.get("replayable", True) else None)

    def _place(self, episodes: Mapping[str, Any], wanted: str, frame: str) -> int:
        """Index of the moment asked for, which joins the ring."""
        entry = episodes[wanted] if wanted else self._moments[0][0]
        if not frame:
            return next(index for index, (each, _) in enumerate(self._moments) if each is entry)
        least, most = self._past - 1, entry["steps"]
        if not frame.isdecimal() or not least <= int(frame) <= most:
            raise ValueError(f"frame '{frame}' of episode '{wanted}' cannot be a start; use {least}..{most}")
        self._moments.insert(0, (entry, int(frame)))
        return 0


def chosen(text: str | None, env) -> Starts:
    """What `--start` asks for: a number, or "FOLDER", "FOLDER:SPLIT/NUMBER", "FOLDER:SPLIT/NUMBER:FRAME"."""
    if text is None or text.isdecimal():
        return WorldStarts(env.model.starts, None if text is None else int(text))
    words = text.split(":")
    cut = next((n for n in range(len(words), 0, -1) if Path(":".join(words[:n])).is_dir()), len(words))
    folder = Path(":".join(words[:cut]))
    if not folder.is_dir():
        most = len(env.model.starts.frames) - 1
        raise FileNotFoundError(
            f"start {text!r} is none; give a number 0..{most}, or a dataset: FOLDER[:SPLIT/NUMBER[:FRAME]]"
        )
    info, asked = env.model.info, ":".join(words[cut:])
    shape = env.observation_space.shape
    return RecordedStarts(folder, asked, past=info.window_frames, shape=shape, env_id=info.env_id)


def _name(entry: Mapping[str, Any]) -> str:
    return f"{entry['split']}/{int(Path(entry['file']).stem)}"


def _some(names: Sequence[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:4]) + (f" ... {listed[-1]}" if len(listed) > 4 else "") or "none"


def read_meta(folder: Path) -> dict[str, Any]:
    """Contents of a dataset's meta.json. FileNotFoundError without one, ValueError where it is another file."""
    path = folder / META
    if not path.is_file():
        raise FileNotFoundError(f"'{folder}' is no dataset: a folder with a {META}, as recording a game writes it")
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        if any(not {"file", "split", "steps", "seed", "sha256"} <= each.keys() for each in meta["episodes"]):
            raise KeyError("episodes")
        return meta | {"height": int(meta["height"]), "width": int(meta["width"])}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path} does not describe a worldsim dataset; choose the folder of a recording") from None


def _read_episode(path: Path, sha256: str) -> tuple[np.ndarray, np.ndarray]:
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"episode {path} is not the file that {META} lists; record the dataset again")
    with np.load(io.BytesIO(data)) as stored:
        return stored["frames"], stored["actions"]
