"""The watch over a process's memory: it tells a leak from play that fills its pools once, and `bench` reports it."""

import argparse
import json
import subprocess
import sys

import pytest
from tiny import save_tiny_world

from worldsim import bench
from worldsim.benchmark import batches
from worldsim.memory import median_slope

pytestmark = pytest.mark.usefixtures("one_thread")


WATCHED = """
import json
import numpy as np
from worldsim.memory import watch

kept = []
pool = watch(lambda: kept.append(np.ones(65_536)) if len(kept) < 100 else None, 1_000, progress=False)
leak = watch(lambda: kept.append(np.ones(8_192)), 1_000, progress=False)  # 64 KB a step
print(json.dumps([pool, leak]))
"""


def test_a_leak_is_told_from_memory_that_fills_once():
    """In a process of its own: what earlier tests freed and the C library kept would hide the first megabytes."""
    done = subprocess.run([sys.executable, "-c", WATCHED], capture_output=True, text=True, check=True)
    pool, leak = json.loads(done.stdout)
    assert pool["memory_flat"] == "yes" and pool["memory_last_mb"] - pool["memory_first_mb"] > 40
    assert leak["memory_flat"] == "no" and 5_000 < leak["memory_mb_per_100k_steps"] < 8_000


def test_a_single_jump_does_not_move_the_slope_and_a_line_has_its_own():
    assert median_slope(range(50), [3 * x + (x > 45) * 400 for x in range(50)]) == 3
    assert median_slope([1], [5]) == 0


@pytest.mark.parametrize("words", [[], ["--batch", "2"]])
def test_bench_reports_the_memory_of_play(tmp_path, capsys, monkeypatch, words):
    monkeypatch.setattr(batches, "PAIRS", 1)
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    folder, file = save_tiny_world(tmp_path / "tiny"), tmp_path / "bench.json"
    asked = [str(folder), "--json", str(file), "--frames", "2", "--threads", "1", "--memory", "60", *words]
    assert bench.run(parser.parse_args(asked)) == 0
    report = json.loads(file.read_text())
    assert report["memory_steps"] == 60 and report["memory_last_mb"] > 50 and report["memory_flat"] in ("yes", "no")
    assert "--memory 60" in report["command"] and "MB after 60 steps" in capsys.readouterr().out
