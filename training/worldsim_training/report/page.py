"""The report's page: gates, plots, film strips and every figure of one or several evaluations, in one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from worldsim_training.battery.verdicts import REFUSED, UNMEASURED, Gate, count, judge
from worldsim_training.report import plots, strips, words

TEMPLATE = "page.html"
SAME = ("env_id", "split", "seed", "heldout_sha256")
"""What two evaluations must share to have been asked the same."""


@dataclass(frozen=True)
class Entry:
    """One evaluation: what to call it, its flat figures, and its strips where they were drawn."""

    label: str
    figures: Mapping[str, object]
    strips: Mapping[str, str] | None = None

    @cached_property
    def gates(self) -> dict[str, Gate]:
        """By key."""
        return {gate.key: gate for gate in judge(self.figures)}

    @property
    def tally(self) -> dict[str, int]:
        """How many gates have each verdict."""
        return count(list(self.gates.values()))

    def film(self, name: str) -> Film | None:
        """A strip as the page shows it; None where none was asked for or it could not be drawn."""
        if self.strips is None or f"strip_{name}" not in self.strips:
            return None
        return Film.of(strips.Strip.of(name, self.strips))

    def missing(self, name: str) -> str:
        """Why there is no such strip."""
        if self.strips is None:
            return "not drawn: worldsim eval draws strips when it is given --report"
        return str(self.strips.get(f"refused_strip_{name}", "not drawn"))


@dataclass(frozen=True)
class Film:
    """A strip with its frames as PNGs in base64, by row."""

    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]
    note: str
    width: int
    height: int

    @classmethod
    def of(cls, strip: strips.Strip) -> Film:
        rows = [
            (label, [strips.png(frame) for frame in frames])
            for label, frames in zip(strip.rows, strip.frames, strict=True)
        ]
        return cls(strip.columns, rows, strip.note, strip.frames.shape[3], strip.frames.shape[2])


def check_tools() -> None:
    """ModuleNotFoundError, before any work, where a page cannot be made."""
    plots.check_tools()


def strips_beside(file: Path) -> Path:
    """Where an evaluation that writes its figures to `file` keeps the pictures of its report."""
    return file.with_suffix(".strips.json")


def render(entries: Sequence[Entry]) -> str:
    """The page of one evaluation, or a comparison of several. It refers to nothing outside itself.

    ValueError without an entry, or where two have the same label.
    """
    labels = [entry.label for entry in entries]
    if not entries or len(set(labels)) < len(labels):
        raise ValueError(f"a page takes one evaluation or more, each under a label of its own; got {labels}")
    from jinja2 import Environment, PackageLoader, StrictUndefined

    settings = {"trim_blocks": True, "lstrip_blocks": True, "autoescape": True, "undefined": StrictUndefined}
    jinja = Environment(loader=PackageLoader(__package__, "."), **settings)
    return jinja.get_template(TEMPLATE).render(
        entries=entries,
        title=_title(entries),
        gates=_gates(entries),
        unmeasured=_unmeasured(entries),
        notes=_notes(entries),
        refusals=_refusals(entries),
        plots=plots.draw_all([(entry.label, entry.figures) for entry in entries]),
        strips=words.STRIPS,
        figures=_union(entry.figures for entry in entries),
        provenance=_provenance(entries),
        words=words,
        unjudged=(REFUSED, UNMEASURED),
    )


def _title(entries: Sequence[Entry]) -> str:
    if len(entries) == 1:
        return f"{entries[0].figures.get('world', entries[0].label)}: how good is this world?"
    return "Worlds compared: " + ", ".join(entry.label for entry in entries)


def _union(keyed) -> list[str]:
    """Every key of several mappings once, in the order in which they appear."""
    return list(dict.fromkeys(key for each in keyed for key in each))


def _gates(entries: Sequence[Entry]) -> list[tuple[str, list[Gate | None]]]:
    """Every gate that somebody was put to, with its verdict in each evaluation; None where it does not hold there."""
    unmeasured = _unmeasured(entries)
    keys = [key for key in _union(entry.gates for entry in entries) if key not in unmeasured]
    return [(key, [entry.gates.get(key) for entry in entries]) for key in keys]


def _unmeasured(entries: Sequence[Entry]) -> list[str]:
    """Gates that nobody was put to."""
    tried = {key for entry in entries for key, gate in entry.gates.items() if gate.verdict != UNMEASURED}
    return [key for key in _union(entry.gates for entry in entries) if key not in tried]


def _notes(entries: Sequence[Entry]) -> list[str]:
    """What a reader must know before the figures."""
    notes = []
    for entry in entries:
        if entry.figures.get("split") == "test":
            notes.append(f"{entry.label}: measured on the test split, {words.opened(entry.figures)}.")
        if entry.figures.get("quick"):
            notes.append(f"{entry.label}: a quick run; most instruments were not asked.")
    if len({tuple(map(entry.figures.get, SAME)) for entry in entries}) > 1:
        notes.append("The held-out episodes differ between these evaluations: compare with the intervals in mind.")
    return notes


def _refusals(entries: Sequence[Entry]) -> list[tuple[str, str, str]]:
    """(label, instrument, reason) of whatever gives no figure."""
    return [
        (entry.label, key.removeprefix("refused_").replace("probe_refused", "state numbers"), str(why))
        for entry in entries
        for key, why in entry.figures.items()
        if key.startswith("refused_") or key == "probe_refused"
    ]


def _provenance(entries: Sequence[Entry]) -> list[str]:
    keys = _union(entry.figures for entry in entries)
    return [key for key in words.PROVENANCE if key in keys] + [key for key in keys if key.startswith("version_")]
