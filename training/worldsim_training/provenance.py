"""What tells a recording from others."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from worldsim_training.episodes import META, read_meta

# A folder is continued only where all of these agree.
IDENTITY = (
    *("game", "env_id", "versions", "fps", "height", "width", "actions"),
    *("seed", "policies", "frames_asked", "episode_steps"),
)


def identity(folder: Path) -> dict[str, Any] | None:
    """How a recording was made and a hash of all its episodes, as data for JSON; None where there is no whole one."""
    if not (folder / META).is_file() or not (meta := read_meta(folder))["complete"]:
        return None
    episodes = "".join(entry["sha256"] for entry in meta["episodes"])
    made = {key: meta.get(key) for key in IDENTITY}
    return made | {"episodes_sha256": hashlib.sha256(episodes.encode()).hexdigest()}
