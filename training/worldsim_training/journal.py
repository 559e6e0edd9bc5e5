"""What a stage tells of itself while it is trained: log, TensorBoard curves, progress bar."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm import tqdm

from worldsim_training import processes
from worldsim_training.config import LoopConfig

LOG = "log.jsonl"


class Journal:
    """Rows for `log.jsonl` of a stage's folder and, where tensorboard is installed, the same figures as curves.

    Of several processes only the first writes.
    step: where the run begins or goes on; curves of an earlier run that went further than that are hidden.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.folder = folder
        self.writer = None
        self.before = (step, time.monotonic())
        if processes.is_first() and find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(folder, purge_step=step + 1)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.writer:
            self.writer.close()

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row, which has its `step`. Its numbers become curves, as do those of its `reviews` at their own."""
        if not processes.is_first():
            return
        with open(self.folder / LOG, "a") as file:
            file.write(json.dumps(row) + "\n")
        if self.writer:
            figures = {key: value for key, value in row.items() if key not in ("step", "reviews")}
            self._draw({**figures, "updates_per_s": self._pace(row["step"])}, row["step"])
            for review in row.get("reviews", ()):
                scores = {key: value for key, value in review.items() if key not in ("step", "student_updates")}
                self._draw({f"review/{key}": value for key, value in scores.items()}, review["step"])
            self.writer.flush()

    def _draw(self, figures: Mapping[str, float], step: int) -> None:
        for name, value in figures.items():
            self.writer.add_scalar(name, value, step)

    def _pace(self, step: int) -> float:
        """Updates a second since the row before."""
        (step_before, then), now = self.before, time.monotonic()
        self.before = (step, now)
        return (step - step_before) / max(now - then, 1e-9)


class ProgressBar(tqdm):
    """A stage's progress: in seconds where a budget ends it, else in updates; `done`, at most 1, is the share.

    Of several processes only the first shows it.
    """

    def __init__(self, stage: str, config: LoopConfig, done: float, **settings: Any) -> None:
        total, unit = (config.seconds, "s") if config.seconds else (config.steps, "update")
        self.by_time = bool(config.seconds)
        layout = "{l_bar}{bar}| {n:.0f}/{total:.0f} s [{elapsed}<{remaining}{postfix}]" if self.by_time else None
        initial = min(done, 1.0) * total
        super().__init__(
            total=total,
            initial=initial if self.by_time else round(initial),
            desc=stage,
            unit=unit,
            mininterval=2.0,
            bar_format=layout,
            disable=not processes.is_first(),
            **settings,
        )

    def reach(self, done: float) -> None:
        """Move on to that share."""
        position = min(done, 1.0) * self.total
        self.update((position if self.by_time else round(position)) - self.n)

    def tell(self, row: Mapping[str, Any]) -> None:
        """Show the losses of a row behind the bar and, where it is in seconds, the count of updates."""
        shown = {name: f"{value:.3g}" for name, value in row.items() if name.endswith("loss")}
        self.set_postfix(({"update": row["step"]} if self.by_time else {}) | shown)


def read_log(folder: Path) -> Iterator[dict]:
    """The rows that `fit` logged: step, mean loss since the row before, learning rate of the last update, seconds of
    training up to here; with a rival also its loss and the student's updates, and what the reviews measured."""
    with open(folder / LOG) as file:
        yield from (json.loads(line) for line in file if line.endswith("\n"))  # a kill may tear the last one
