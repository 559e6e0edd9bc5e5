"""The log of every opening of a world's test split, one JSON object a line, kept in the world's folder."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

LOG = "test_split.jsonl"


@dataclass(frozen=True)
class Opening:
    """One evaluation on the test split, noted when it begins: whoever stops it halfway has looked, too."""

    date: str
    """ISO 8601, UTC."""
    world: str
    world_manifest_sha256: str
    """Of the weights and all else that the world's manifest lists."""
    command: str
    seed: int


def note(opening: Opening, folder: Path, elsewhere: Path) -> Path:
    """Append an opening to the log in the world's folder, or to one in `elsewhere` where that cannot be written.

    Returns the log. PermissionError where neither can be: then the split stays closed.
    """
    line = (json.dumps(asdict(opening)) + "\n").encode()
    for place in (folder, elsewhere):
        try:
            with open(place / LOG, "ab") as log:
                log.write(line)
                log.flush()
                os.fsync(log.fileno())
            return place / LOG
        except OSError:
            continue
    where = " or ".join(f"'{place}'" for place in dict.fromkeys((folder, elsewhere)))
    raise PermissionError(f"the test split is opened only where that can be logged; make {where} writable")


def read(folder: Path) -> list[Opening]:
    """The openings that a folder's log holds, oldest first; ValueError names a line that is none."""
    if not (folder / LOG).is_file():
        return []
    lines = (folder / LOG).read_text(encoding="utf-8").splitlines()
    return [_opening(line, f"line {number} of {folder / LOG}") for number, line in enumerate(lines, 1)]


def count(manifest_sha256: str, *folders: Path) -> int:
    """How often the test split was opened for these weights, by the logs of all these folders."""
    logs = {folder.resolve() for folder in folders}
    return sum(one.world_manifest_sha256 == manifest_sha256 for folder in logs for one in read(folder))


def _opening(line: str, where: str) -> Opening:
    try:
        told = json.loads(line)
        return Opening(**{field.name: told[field.name] for field in fields(Opening)})
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{where} tells no opening of the test split; restore the log from where it came") from None
