"""What a stage tells while it is trained: curves, a bar with the time left."""

import io
import time
from dataclasses import replace

import pytest
import torch
from torch import nn
from tqdm import tqdm

from worldsim_training import journal, loop
from worldsim_training.config import LoopConfig
from worldsim_training.dataset import Clip

CONFIG = LoopConfig(steps=6, batch=2, learning_rate=1e-2, warmup=4, decay=0.0, checkpoint_every=2)


class OneClip:
    """A sampler of a clip that nobody looks at."""

    def sample(self):
        known = torch.ones(2, 3, dtype=torch.bool)
        return Clip(torch.zeros(2, 3, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, 3, 4), known, known * 0.0, ~known)

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        assert state == {}


class Parabola:
    name = "parabola"

    def __init__(self):
        self.student = nn.Linear(1, 1, bias=False)
        self.average = loop.average_of(self.student)

    def loss(self, clip, generator):
        return (self.student.weight - 3.0).square().sum()


def fit(folder, config=CONFIG, **settings):
    folder.mkdir(exist_ok=True)
    return loop.fit(Parabola(), OneClip(), config, folder, settings={}, **settings)


def curves(folder):
    """Name of each curve that TensorBoard shows -> its (step, value) points."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder)).Reload()
    return {name: [(point.step, point.value) for point in events.Scalars(name)] for name in events.Tags()["scalars"]}


def logged(folder, key):
    return [(row["step"], pytest.approx(row[key], rel=1e-5)) for row in journal.read_log(folder)]


def test_tensorboard_shows_the_figures_of_the_log_and_the_pace(tmp_path):
    assert fit(tmp_path)
    shown = curves(tmp_path)
    assert set(shown) == {"loss", "learning_rate", "seconds", "updates_per_s"}
    assert [step for step, _ in shown["loss"]] == [2, 4, 6]
    assert shown["loss"] == logged(tmp_path, "loss") and shown["learning_rate"] == logged(tmp_path, "learning_rate")
    assert [rate for _, rate in shown["learning_rate"]] == pytest.approx([5e-3, 1e-2, 1e-2])
    assert all(pace > 0 for _, pace in shown["updates_per_s"])


def test_a_resumed_run_goes_on_in_the_same_curves(tmp_path):
    fit(tmp_path, replace(CONFIG, steps=2))
    time.sleep(1.0)  # TensorBoard reads event files in the order of the seconds in their names
    with journal.Journal(tmp_path, 2) as lost:
        lost.write({"step": 3, "loss": 99.0})  # logged by a run whose checkpoint was lost
    assert [step for step, _ in curves(tmp_path)["loss"]] == [2, 3]
    time.sleep(1.0)
    fit(tmp_path)
    shown = curves(tmp_path)["loss"]
    assert [step for step, _ in shown] == [2, 4, 6] and max(value for _, value in shown) < 99.0


def test_reviews_are_curves_at_the_steps_that_they_were_made(tmp_path):
    scores = iter(range(9))
    stage = Parabola()
    best = loop.Best(stage.average, lambda network: {"score": float(next(scores))}, 3)
    loop.fit(stage, OneClip(), CONFIG, tmp_path, settings={}, best=best)
    assert curves(tmp_path)["review/score"] == [(0, 0.0), (3, 1.0), (6, 2.0)]


def test_without_tensorboard_the_log_is_written_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "find_spec", lambda name: None)
    assert fit(tmp_path)
    assert [row["step"] for row in journal.read_log(tmp_path)] == [2, 4, 6]
    assert not list(tmp_path.glob("events.*"))


def drawn_after(bar, seconds):
    """What the bar would show that many seconds after it began."""
    return tqdm.format_meter(**{**bar.format_dict, "elapsed": seconds, "rate": None, "ncols": None})


def test_a_budget_of_seconds_shows_the_time_that_is_left_of_it():
    config = replace(CONFIG, steps=10**6, seconds=600.0)
    with journal.ProgressBar("stage", config, 0.25, file=io.StringIO()) as bar:
        bar.reach(0.5)
        bar.tell({"step": 70, "loss": 0.1234, "learning_rate": 1.0})
        shown = drawn_after(bar, 150.0)
    assert "50%" in shown and "300/600 s [02:30<05:00, update=70, loss=0.123]" in shown


def test_without_a_budget_the_bar_counts_updates():
    with journal.ProgressBar("stage", replace(CONFIG, steps=200), 0.5, file=io.StringIO()) as bar:
        bar.reach(0.75)
        shown = drawn_after(bar, 10.0)
    assert "150/200 [00:10<00:10" in shown and "5.00update/s" in shown
