"""Rounds that were played, as episodes of a dataset that `worldsim_training` trains on."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from worldsim.action import ActionSpec
from worldsim.player.starts import META, read_meta
from worldsim.player.timeline import Timeline

SCHEMA = 1  # of a dataset's meta.json
SHARES = {"train": 0.9, "validation": 0.05, "test": 0.05}
"""Of the episodes; each split has one before any has two."""
SPLITS = tuple(SHARES)


class EpisodeWriter:
    """A dataset's folder that rounds are added to, a new one or a recorded one, in which they join the training split.

    facts: what meta.json says of the game: game, env_id, licence, versions, fps, height, width and actions; source:
    "real" or "imagined", which no folder mixes. ValueError in one line where the folder holds anything else.
    """

    def __init__(self, folder: Path, facts: dict[str, Any], source: str) -> None:
        self.folder = folder
        fresh = not (folder / META).is_file()
        if fresh and folder.exists() and any(folder.iterdir()):
            raise ValueError(f"{folder} holds other files and no {META}; keep episodes in a new folder or a dataset's")
        begun = {"schema": SCHEMA, **facts, "source": source, "played": True, "complete": True, "episodes": []}
        self._meta = begun if fresh else read_meta(folder)
        for key, right in {"game": facts["game"], "actions": facts["actions"], "source": source}.items():
            if (seen := self._meta.get(key, "real")) != right:
                wrong = "other actions" if key == "actions" else f"{key} '{seen}', not '{right}'"
                raise ValueError(f"{folder} holds episodes of {wrong}; choose another folder")

    def add(self, timeline: Timeline, policy: str, *, first: int = 0) -> Path | None:
        """Write a round that was played, from its frame `first` on, as one episode; None where that has no other."""
        if len(timeline) <= first:
            return None
        split = self._split()
        number = 1 + max((entry["seed"][-1] for entry in self._of(split)), default=-1)
        file = f"{split}/{number:06d}.npz"
        data = _packed(timeline, first, ActionSpec.from_json(self._meta["actions"]))
        _write_whole(self.folder / file, data)
        rewards = np.asarray(timeline.rewards[first:])
        entry = {"file": file, "split": split, "policy": policy, "seed": [timeline.seed, SPLITS.index(split), number]}
        entry |= {"steps": len(rewards), "return": float(rewards.sum()), "ended": timeline.ended, "replayable": False}
        entry |= {"rewarded_steps": int(np.count_nonzero(rewards)), "sha256": hashlib.sha256(data).hexdigest()}
        self._meta["episodes"].append(entry)
        frames = {split: sum(each["steps"] + 1 for each in self._of(split)) for split in SPLITS}
        told = self._meta | {"frames": sum(frames.values()), "split_frames": frames}
        _write_whole(self.folder / META, (json.dumps(told, indent=1) + "\n").encode())
        return self.folder / file

    def _of(self, split: str) -> list[dict[str, Any]]:
        return [entry for entry in self._meta["episodes"] if entry["split"] == split]

    def _split(self) -> str:
        if not self._meta.get("played"):
            return "train"
        counts = Counter(entry["split"] for entry in self._meta["episodes"])
        empty = [split for split in SPLITS if not counts[split]]
        return empty[0] if empty else min(SPLITS, key=lambda split: counts[split] / SHARES[split])


def _packed(timeline: Timeline, first: int, spec: ActionSpec) -> bytes:
    buffer = io.BytesIO()
    actions = _named(timeline, spec)[first:]
    np.savez_compressed(
        buffer,
        frames=np.stack(list(timeline.frames(first))),
        actions=actions.astype(np.float32 if actions.ndim > 1 else np.int64),
        rewards=np.asarray(timeline.rewards[first:], np.float32),
        ended=np.bool_(timeline.ended),
    )
    return buffer.getvalue()


def _named(timeline: Timeline, spec: ActionSpec) -> np.ndarray:
    """The actions, each naming the conditions that held where its form has room for them: training knows no others."""
    actions = np.asarray(timeline.actions)
    if actions.ndim == 1 or not any(timeline.holds):
        return actions
    return spec.hold(actions.astype(np.float32), np.stack([spec.condition_vector(each) for each in timeline.holds]))


def _write_whole(path: Path, data: bytes) -> None:
    """A kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(data)
    part.replace(path)
