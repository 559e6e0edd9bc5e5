"""Clips of scenes: frames under actions, saved as film or as a strip of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from worldsim.player.clip import FILMS, check_clip_name, write_clip, write_strip
from worldsim_envs.pictures import clip_frame

SCALE = 3
"""Of the frames of a film of several clips, before the film is enlarged as every clip is."""


@dataclass(frozen=True)
class Clip:
    """What a scene showed: N + 1 frames and the N actions between them; the first frame is the one before them."""

    frames: np.ndarray = field(repr=False)
    """(N + 1, H, W, 3) uint8."""
    actions: np.ndarray = field(repr=False)
    """(N, A) float32 channel vectors, the condition among them."""
    words: tuple[str, ...]
    """(N,) what the player did in each of them, "" where nothing."""
    fps: int
    title: str
    """What paints the scene, and who the NPC is."""
    script: str = ""

    def __len__(self) -> int:
        return len(self.actions)

    def save(self, path: str | Path) -> Path:
        """Write the clip: .mp4 (needs PyAV), .gif or .webp as a film, .png as a strip of 8 moments; returns the path.

        ValueError or ModuleNotFoundError in one line where that cannot be. The same clip makes the same bytes.
        """
        path = _checked(path)
        if path.suffix == ".png":
            write_strip(path, {self.script: self.frames}, self.title)
        else:
            write_clip(path, self.frames, self.fps)
        return path


def save_clips(path: str | Path, clips: Mapping[str, Clip], title: str = "") -> Path:
    """Write clips of one length side by side (.mp4, .gif, .webp) or under each other (.png), each with its label.

    title: of the whole; "" takes that of the first clip. Errors as in `Clip.save`.
    """
    path = _checked(path)
    if not clips or len({clip.frames.shape for clip in clips.values()}) > 1:
        seen = ", ".join(f"{label}: {len(clip)}" for label, clip in clips.items()) or "none"
        raise ValueError(f"clips side by side must be as long as each other; their frames are {seen}")
    first = next(iter(clips.values()))
    title = title or first.title
    if path.suffix == ".png":
        write_strip(path, {label: clip.frames for label, clip in clips.items()}, title)
        return path
    rows = zip(*(clip.frames for clip in clips.values()), strict=True)
    write_clip(path, (clip_frame(dict(zip(clips, frames, strict=True)), title, SCALE) for frames in rows), first.fps)
    return path


def _checked(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix == ".png":
        path.parent.mkdir(parents=True, exist_ok=True)
        return path
    if path.suffix not in FILMS:
        raise ValueError(f"cannot write '{path}'; give a name that ends in .mp4, .gif, .webp or .png")
    check_clip_name(path)
    return path
