"""Recorded episodes on disk: one npz file each, and the meta.json that lists them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SCHEMA = 1
META = "meta.json"
SPLITS = ("train", "validation", "test")
"""A split's position here is its id in the seed of its episodes."""

REMEDY = "to record it again, start the same collect command, or the training command with stage=collect"

_HEADERS = threading.Lock()
"""numpy parses an array's header with `ast`, which is not safe in several threads before Python 3.12 (gh-106905)."""


@dataclass(frozen=True)
class Episode:
    """N steps of a game: `actions[t]` took `frames[t]` to `frames[t + 1]` and gave `rewards[t]`.

    frames:  (N+1, H, W, 3) uint8
    actions: (N,) int64 native actions, or (N, A) float32 channel vectors where the game's own action is a vector
    rewards: (N,) float32
    ended:   whether the game ended with the last frame (False: the recording was cut there)
    """

    frames: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    ended: bool

    def __post_init__(self) -> None:
        steps = len(self.actions)
        if self.frames.dtype != np.uint8 or self.frames.ndim != 4 or self.frames.shape[-1] != 3:
            seen = f"{self.frames.dtype} {self.frames.shape}"
            raise ValueError(f"frames are {seen}; an episode needs uint8 (N+1, H, W, 3)")
        if len(self.frames) != steps + 1 or self.rewards.shape != (steps,):
            counts = f"{len(self.frames)} frames, {steps} actions, {len(self.rewards)} rewards"
            raise ValueError(f"an episode has N+1 frames, N actions and N rewards; this one has {counts}")


def seeds_of(seed: Sequence[int]) -> tuple[np.random.SeedSequence, np.random.SeedSequence]:
    """What decides the opening of a recorded episode, and how its policy plays. seed: its own, (seed, split, index)."""
    opening, policy = np.random.SeedSequence(tuple(seed)).spawn(2)
    return opening, policy


def write_episode(path: Path, episode: Episode) -> str:
    """Write an episode so that the file is there whole or not at all; returns its SHA-256 in hex."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, frames=episode.frames, actions=episode.actions, rewards=episode.rewards, ended=np.bool_(episode.ended)
    )
    data = buffer.getvalue()
    write_whole(path, data)
    return hashlib.sha256(data).hexdigest()


def read_episode(path: Path, sha256: str) -> Episode:
    """Read an episode. FileNotFoundError where it is missing, ValueError where it is not the file that was recorded."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"episode {path} is missing; {REMEDY}") from None
    seen = hashlib.sha256(data).hexdigest()
    if seen != sha256:
        wrong = f"its SHA-256 is {seen[:12]}..., {META} says {sha256[:12]}..."
        raise ValueError(f"episode {path} is damaged: {wrong}; {REMEDY}")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = [io.BytesIO(archive.read(f"{name}.npy")) for name in ("frames", "actions", "rewards", "ended")]
        with _HEADERS:
            frames, actions, rewards, ended = (np.load(each, allow_pickle=False) for each in unpacked)
        return Episode(frames, actions, rewards, bool(ended))
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"episode {path} is not a worldsim episode: {error}") from None


def looks_whole(folder: Path, entry: Mapping[str, Any]) -> bool:
    """Whether an episode's file is there to its end. One that is damaged before it is seen when it is read."""
    return zipfile.is_zipfile(folder / entry["file"])


def is_whole(folder: Path, entry: Mapping[str, Any]) -> bool:
    """Whether an episode's file is the one that was recorded."""
    try:
        read_episode(folder / entry["file"], entry["sha256"])
    except (OSError, ValueError):
        return False
    return True


def write_whole(path: Path, data: bytes) -> None:
    """Write a file beside its place, flush it and move it there: a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with open(part, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def write_meta(folder: Path, meta: dict[str, Any]) -> None:
    """Write meta.json whole."""
    write_whole(folder / META, (json.dumps(meta, indent=1) + "\n").encode())


def read_meta(folder: Path, game: str = "GAME") -> dict[str, Any]:
    """Contents of meta.json. game: what to record where there is none, as `collect` is told it.

    FileNotFoundError without one, ValueError where it is not a dataset's."""
    path = folder / META
    if not path.is_file():
        what = f"{folder} has no {META}" if folder.is_dir() else f"no dataset at {folder}"
        command = f"python -m worldsim_training.collect game={game} frames=100000 seed=0 out={folder}"
        raise FileNotFoundError(f"{what}; record one with {command}")
    try:
        meta = json.loads(path.read_text())
        schema = meta["schema"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} does not describe a worldsim dataset; choose the folder of a recording") from None
    if schema != SCHEMA:
        raise ValueError(f"{path} has schema {schema!r}; this version reads schema {SCHEMA}: record the dataset again")
    missing = [key for key in ("game", "height", "width", "actions", "complete", "episodes") if key not in meta]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; record the dataset again")
    return meta
