"""Quick saves: a few slots a world, in the user's data folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worldsim.player.timeline import Timeline

SLOTS = 4


def data_folder(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """Where programs keep a user's data on this system, and worldsim its own in there."""
    home = Path.home()
    if platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "worldsim"
    if platform == "darwin":
        return home / "Library" / "Application Support" / "worldsim"
    return Path(environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "worldsim"


class Slots:
    """The saved games of one world. folder: its own, named after the world and its weights."""

    def __init__(self, model, folder: Path | None = None) -> None:
        name = f"{model.info.name}-{model.fingerprint[:12] or 'unsaved'}"
        self.folder = (folder or data_folder() / "saves") / name

    def save(self, slot: int, state: Any, timeline: Timeline) -> None:
        """Write one slot; the old one stays where that fails."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state_file, history = self._files(slot)
        new_state, new_history = state_file.with_stem(f"new{slot}"), history.with_stem(f"new{slot}")
        state.save(new_state)
        timeline.save(new_history)
        new_state.replace(state_file)
        new_history.replace(history)

    def load(self, slot: int) -> tuple[Path, Timeline]:
        """The state's file and the history of a slot; FileNotFoundError or ValueError in one line."""
        state_file, history = self._files(slot)
        if not state_file.is_file() or not history.is_file():
            raise FileNotFoundError(f"slot {slot} is empty; F5 saves")
        return state_file, Timeline.load(history)

    def _files(self, slot: int) -> tuple[Path, Path]:
        return self.folder / f"slot{slot}.safetensors", self.folder / f"slot{slot}.npz"
