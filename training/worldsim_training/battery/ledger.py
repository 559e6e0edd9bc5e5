"""Finished parts of a measurement, kept in a folder so that a killed run goes on where it was."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from worldsim_training.episodes import write_whole

Figures = dict[str, float | int | str | None]


@dataclass(frozen=True)
class Ledger:
    """One file a part; none at all where the folder is None."""

    folder: Path | None = None
    identity: Mapping[str, object] = field(default_factory=dict)
    """Whatever decides the figures: checkpoint, seed, split, sizes, versions."""

    def part(self, name: str, measure: Callable[[], Mapping]) -> Figures:
        """The figures of a part: those kept, where they were measured under the same identity, else measured now."""
        kept = self._kept(name)
        if kept is not None:
            return kept
        figures = finite(measure())
        if self.folder is not None:
            entry = {"identity": self.identity, "figures": figures}
            write_whole(self.folder / f"{name}.json", (json.dumps(entry, indent=1) + "\n").encode())
        return figures

    def holds(self, name: str) -> bool:
        """Whether a part is finished."""
        return self._kept(name) is not None

    def _kept(self, name: str) -> Figures | None:
        if self.folder is None or not (self.folder / f"{name}.json").is_file():
            return None
        try:
            entry = json.loads((self.folder / f"{name}.json").read_text())
            same = entry["identity"] == json.loads(json.dumps(self.identity))
            return dict(entry["figures"]) if same else None
        except (ValueError, KeyError, TypeError):
            return None  # damaged: it is measured again, and written whole


def finite(figures: Mapping) -> Figures:
    """Figures as JSON holds them: plain numbers and strings, None for what is not a number."""
    plain = {key: value.item() if hasattr(value, "item") else value for key, value in figures.items()}
    odd = {key for key, value in plain.items() if isinstance(value, float) and not math.isfinite(value)}
    return {key: None if key in odd else value for key, value in plain.items()}
