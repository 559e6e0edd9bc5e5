"""What tells a recording from others, its game's present pictures among them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from worldsim.action import ActionSpec
from worldsim_envs.games import Game
from worldsim_training.episodes import META, read_episode, read_meta, seeds_of

# A folder is continued only where all of these agree.
IDENTITY = (
    *("game", "env_id", "versions", "fps", "height", "width", "actions"),
    *("seed", "policies", "frames_asked", "episode_steps"),
)

FORM = ("env_id", "height", "width", "fps")
"""Of a game, what it is and what its frames are: a recording of another form is another game's."""


def identity(folder: Path) -> dict[str, Any] | None:
    """How a recording was made and a hash of all its episodes, as data for JSON; None where there is no whole one."""
    if not (folder / META).is_file() or not (meta := read_meta(folder))["complete"]:
        return None
    episodes = "".join(entry["sha256"] for entry in meta["episodes"])
    made = {key: meta.get(key) for key in IDENTITY}
    return made | {"episodes_sha256": hashlib.sha256(episodes.encode()).hexdigest()}


def check_game(folder: Path, meta: dict[str, Any], game: type[Game], split: str) -> None:
    """ValueError where a split holds other actions, frames or pictures than the game has now."""
    told = {"actions": ActionSpec.from_json(meta["actions"])} | {key: meta.get(key) for key in FORM}
    for key, there in told.items():
        if there != (here := getattr(game, key)):
            seen = f"{folder} has {key} {there}; {game.name} has {here}"
            raise ValueError(f"{seen}: record the game again, into another world.data.folder")
    check_pictures(folder, meta | {"episodes": [each for each in meta["episodes"] if each["split"] == split]}, game)


def check_pictures(folder: Path, meta: dict[str, Any], game: type[Game]) -> None:
    """ValueError where the game does not begin the first episode of `meta` as it was recorded.

    One frame is compared, and none of rounds that somebody played, nor where the game does not start here or is of
    other versions than the recording: what has been recorded can be trained on all the same.
    """
    entry = next((each for each in meta["episodes"] if each.get("replayable", True)), None)
    shown = _opening(game, meta.get("versions"), entry["seed"]) if entry else None
    if shown is not None and not np.array_equal(shown, read_episode(folder / entry["file"], entry["sha256"]).frames[0]):
        seen = f"{game.name} now shows other pictures than {folder} has"
        raise ValueError(f"{seen}: record the game again into another folder, or delete that one")


def _opening(game: type[Game], versions: dict[str, str] | None, seed: Sequence[int]) -> np.ndarray | None:
    """Frame (H, W, 3) uint8 with which an episode of that seed begins; None without a game of these versions."""
    try:
        if game.facts()["versions"] != versions:
            return None
        with game() as running:
            return running.reset(seeds_of(seed)[0])
    except ValueError:  # an adapter's own words of what is wrong with it
        raise
    except Exception:  # of a package, a library or a display that is missing
        return None
