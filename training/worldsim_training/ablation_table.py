"""The results of an ablation, read from its folders: `ablation.json` for programs, `ablation.md` for people."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from worldsim_training.config import AblationConfig
from worldsim_training.episodes import write_whole
from worldsim_training.journal import LOG, read_log
from worldsim_training.plan import DISTILLATIONS
from worldsim_training.stage_folder import NETWORK, SCORES, WEIGHTS

COST = "cost.json"
"""In the folder of a stage: all the seconds that it took, and on what."""
FAILURES = "failures.json"
"""In the folder of a seed: why a task has no network, or one that failed its gate; by task."""
COLUMNS = {
    "gain_1_db": "Gain over the last frame shown again, 1 frame ahead, dB",
    "gain_{last}_db": "Gain {last} frames ahead, dB",
    "response_levels": "Response to other actions, levels of 0..255",
    "motion_ratio": "Late motion, share of the real frames'",
    "sharpness_ratio": "Late sharpness, share of the real frames'",
    "drift_levels": "Late distance to the real colours, levels",
    "score_change": "Score of the last network of distribution matching less that of its first, dB",
    "kept_update": "Update of the student whose network was kept; 0 is the one before distribution matching",
    "train_s": "Seconds of training of this stage alone",
    "wall_s": "Seconds of this stage alone with start, compiling and validation",
}
NOTE = """\
Mean ± standard deviation over {seeds} seeds of the network's weights and of all its batches and noise; the recording
is the same. Played freely on {clips} clips of {frames} frames of the validation split, at the column's number of steps;
distribution matching was trained for that number. It keeps its best network by score on those same clips (mean gain
less the dB by which motion and sharpness are off), the first one included, so that its gains are a little too kind;
the change of score from its first network to its last is not chosen so. {device}; {together} at a time."""


@dataclass(frozen=True)
class Cell:
    """A network of the ablation at a number of steps; scoring is empty before distribution matching."""

    seed: int
    distillation: str
    scoring: str
    student_steps: int

    @property
    def name(self) -> str:
        """Folder of the cell inside its seed's."""
        parts = ("dmd", self.distillation, self.scoring, self.student_steps) if self.scoring else (self.stage,)
        return "_".join(map(str, parts))

    @property
    def stage(self) -> str:
        """Folder of the network inside the cell's, or inside the seed's before distribution matching."""
        return "dmd" if self.scoring else DISTILLATIONS[self.distillation]


def seed_folder(config: AblationConfig, seed: int) -> Path:
    """Where all of a seed lies."""
    return Path(config.out) / f"seed_{seed}"


def stages(config: AblationConfig) -> list[str]:
    """What a seed trains before distribution matching, in turn."""
    first = ["bidirectional"] if "bidirectional" in (*config.scorings, config.world.init) else []
    distilled = [DISTILLATIONS[name] for name in config.distillations if name != "none"]
    return [*first, "teacher_forcing", *distilled]


def cells(config: AblationConfig, seed: int) -> list[Cell]:
    """All cells of a seed, those before distribution matching included."""
    rows = [(distillation, scoring) for distillation in config.distillations for scoring in ("", *config.scorings)]
    return [Cell(seed, *row, steps) for row in rows for steps in config.student_steps]


def folder_of(config: AblationConfig, cell: Cell) -> Path:
    """Where the stage of a cell writes."""
    folder = seed_folder(config, cell.seed)
    return folder / cell.name / cell.stage if cell.scoring else folder / cell.stage


def finished(config: AblationConfig) -> int:
    """How many tasks of all seeds have come to their end."""
    folders = {folder_of(config, cell) for seed in config.seeds for cell in cells(config, seed)}
    folders |= {seed_folder(config, seed) / stage for seed in config.seeds for stage in stages(config)}
    unscored = sum((folder / NETWORK / WEIGHTS).is_file() for folder in folders if folder.name == "bidirectional")
    return unscored + sum((folder / SCORES).is_file() for folder in folders)


def add_cost(path: Path, seconds: float, device: torch.device) -> None:
    """Add to the seconds that a stage took before."""
    before = json.loads(path.read_text())["wall_s"] if path.is_file() else 0.0
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else f"CPU, {torch.get_num_threads()} thread(s)"
    write_whole(path, json.dumps({"wall_s": round(before + seconds, 1), "device": name}).encode())


def result(config: AblationConfig, cell: Cell) -> dict[str, Any]:
    """All that is known of a cell: its identity, its cost, its scores at its own number of steps or its failure."""
    folder = folder_of(config, cell)
    row = {**asdict(cell), **_cost(folder)}
    if cell.scoring:
        row |= _reviews(folder)
    failures = _read(seed_folder(config, cell.seed) / FAILURES)
    if reason := failures.get(cell.name):
        row["failed"] = reason
    scores = _read(folder / SCORES)
    return row | ({"scores": scores[f"{cell.student_steps}_step"], "scores_at_all_steps": scores} if scores else {})


def results(config: AblationConfig) -> dict[str, Any]:
    """Everything, as data for JSON: the settings, the cost of the stages before distribution matching, the cells."""
    before = [
        {"seed": seed, "stage": stage, **_cost(seed_folder(config, seed) / stage)}
        for seed in config.seeds
        for stage in stages(config)
    ]
    rows = [result(config, cell) for seed in config.seeds for cell in cells(config, seed)]
    return {"settings": asdict(config), "split": "validation", "stages": before, "cells": rows}


def write(config: AblationConfig) -> None:
    """Write both files to the ablation's folder."""
    write_whole(Path(config.out) / "ablation.json", (json.dumps(results(config), indent=1) + "\n").encode())
    write_whole(Path(config.out) / "ablation.md", (tables(config) + "\n").encode())


def tables(config: AblationConfig) -> str:
    """Markdown: a table for each figure, the cost of the earlier stages, and what failed with its reason."""
    found = results(config)
    rows, last = found["cells"], _last_horizon(found["cells"])
    parts = [_note(config, found)]
    for key, title in COLUMNS.items():
        if key != "gain_{last}_db" or last > 1:
            parts.append(f"**{title.format(last=last)}**\n\n" + _table(config, rows, key.format(last=last)))
    parts.append("**Stages before distribution matching**\n\n" + _stage_table(config, found["stages"]))
    failed = [f"- seed {row['seed']}, {_label(row)}: {row['failed']}" for row in rows if "failed" in row]
    missing = sum("failed" not in row and "scores" not in row for row in rows)
    parts.append("**Failed**\n\n" + "\n".join(failed) if failed else "No cell failed.")
    return "\n\n".join(parts + ([f"{missing} of {len(rows)} cells are not done yet."] if missing else []))


def _note(config: AblationConfig, found: Mapping[str, Any]) -> str:
    devices = sorted({row["device"] for row in (*found["stages"], *found["cells"]) if "device" in row})
    on_cpu = not devices or devices[0].startswith("CPU")
    asked = config.validation_on_cpu if on_cpu else config.validation
    together = f"{min(config.workers, len(config.seeds))} seed(s)"
    device = ", ".join(devices) or "Nothing has been trained"
    seeds = len(config.seeds)
    return NOTE.format(seeds=seeds, clips=asked.clips, frames=asked.frames, device=device, together=together)


def _table(config: AblationConfig, rows: Sequence[Mapping[str, Any]], key: str) -> str:
    head = ["| from | distribution matching | " + " | ".join(f"{k} step" for k in config.student_steps) + " |"]
    lines = head + ["|---" * (2 + len(config.student_steps)) + "|"]
    for distillation in config.distillations:
        for scoring in ("", *config.scorings):
            wanted = (distillation, scoring)
            mine = [row for row in rows if (row["distillation"], row["scoring"]) == wanted]
            shown = [_spread([row for row in mine if row["student_steps"] == k], key) for k in config.student_steps]
            names = (DISTILLATIONS[distillation].replace("_", " "), scoring or "none")
            lines.append("| " + " | ".join((*names, *shown)) + " |")
    return "\n".join(lines)


def _stage_table(config: AblationConfig, rows: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| stage | updates | seconds of training | with start, compiling and validation |", "|---|---|---|---|"]
    for stage in stages(config):
        mine = [row for row in rows if row["stage"] == stage]
        shown = [_spread(mine, key) for key in ("updates", "train_s", "wall_s")]
        lines.append("| " + " | ".join((stage.replace("_", " "), *shown)) + " |")
    return "\n".join(lines)


def _spread(rows: Sequence[Mapping[str, Any]], key: str) -> str:
    """Mean ± standard deviation of a figure, and over how many of the seeds where some lack it."""
    values = [value for row in rows if (value := row.get(key, row.get("scores", {}).get(key))) is not None]
    if not values:
        return "failed" if any("failed" in row for row in rows) else ""
    text = f"{statistics.fmean(values):.2f}"
    text += f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return text if len(values) == len(rows) else f"{text} ({len(values)} of {len(rows)})"


def _cost(folder: Path) -> dict[str, Any]:
    rows = list(read_log(folder)) if (folder / LOG).is_file() else []
    if not rows:
        return _read(folder / COST)
    counts = {"updates": rows[-1]["step"], "train_s": rows[-1]["seconds"]}
    if "student_updates" in rows[-1]:
        counts["student_updates"] = rows[-1]["student_updates"]
    return counts | _read(folder / COST)


def _reviews(folder: Path) -> dict[str, Any]:
    """What distribution matching measured of itself on the way: first, last and kept network."""
    rows = read_log(folder) if (folder / LOG).is_file() else ()
    reviews = [review for row in rows for review in row.get("reviews", ())]
    if not reviews:
        return {}
    best = max(reviews, key=lambda review: review["score"])
    change = round(reviews[-1]["score"] - reviews[0]["score"], 3)
    return {"score_change": change, "kept_update": best["student_updates"], "first": reviews[0], "last": reviews[-1]}


def _last_horizon(rows: Sequence[Mapping[str, Any]]) -> int:
    """The furthest horizon, in frames, that the cells were scored at; 1 where none was scored."""
    names = {name for row in rows for name in row.get("scores", {}) if name.startswith("gain_")}
    return max((int(name.split("_")[1]) for name in names), default=1)


def _label(row: Mapping[str, Any]) -> str:
    after = f" then {row['scoring']} distribution matching" if row["scoring"] else ""
    return f"{DISTILLATIONS[row['distillation']].replace('_', ' ')}{after}, {row['student_steps']} step(s)"


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}
