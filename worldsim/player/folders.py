"""Where the player's files go."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Folders:
    """Clips and strips by default go into the folder the program runs in, saves into the user's own."""

    clips: Path = Path("worldsim_clips")
    saves: Path | None = None

    def new(self, world: str, kind: str, suffix: str) -> Path:
        """The file of a clip or a strip that is written now. world: its name."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        return self.clips / f"{world}-{kind}-{stamp}{suffix}"
