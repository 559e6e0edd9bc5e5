"""The throughput command: what it counts, times and writes."""

import json
import math
import sys
from dataclasses import replace
from itertools import islice

import pytest
import torch
from dot_game import DotGame
from omegaconf import OmegaConf
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from worldsim_training import config, kernel_times, loop, throughput
from worldsim_training.dataset import ClipSampler
from worldsim_training.flops import Meter

MODEL = {"dim": 16, "depth": 3, "heads": 2, "window": 2, "conv_widths": [8, 8]}
LOOP = {"batch": 4, "learning_rate": 1e-3}
WORLD = {
    "name": "dot",
    "game": "dot",
    "model": MODEL,
    "data": {"folder": "nowhere", "clip_frames": 4},
    "context": {"painted_share": 0.5, "painted_rounds": 2},
    "teacher_forcing": {"loop": {"steps": 1, **LOOP}},
    "consistency": {"loop": {"steps": 1, **LOOP}, "intervals": 4},
    "outcomes": {"loop": {"steps": 1, **LOOP}},
    "dmd": {"loop": LOOP, "context_frames": 2, "frames": 2, "critic_per_student": 2, "consistency_weight": 0.1},
}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def small(dot_game, monkeypatch):
    monkeypatch.setitem(throughput.MATMUL_SIZES, "cpu", (64, 96))


def settings(folder, **top):
    tree = {"world": WORLD, "out": str(folder / "out" / "run.json"), "device": "cpu", "compile": False}
    merged = OmegaConf.merge(config.schema(config.ThroughputConfig), tree, {"warmup": 2, "updates": 2}, top)
    return OmegaConf.to_object(merged)


@pytest.mark.parametrize(
    ("stage", "kept_share"), [*((stage, 0.0) for stage in throughput.STAGES), ("consistency", 0.9)]
)
def test_the_meter_adds_up_what_whole_updates_work_out(stage, kept_share, tmp_path):
    kept = {"context": {"kept_share": kept_share, "painted_sigmas": [1.0, 0.5]}}
    asked, device = settings(tmp_path, stage=stage, world=kept), torch.device("cpu")
    trial = throughput.STAGES[stage](asked.world, lambda: throughput._fresh(asked.world, DotGame, device))
    meter = Meter(trial.stage.student)
    throughput._prepare(trial, meter, asked)
    clips = ClipSampler(throughput._recording(asked, DotGame, trial), trial.clip_frames, 4, 0)
    updates = loop.updates(trial.stage, clips, trial.loop, trial.rival)
    next(updates), next(updates)  # the meter's own work, at the first pass of a kind, would be counted, too
    meter.flops = 0
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        assert next(updates) == 3
    assert meter.flops == counter.get_total_flops() > 1e6


def test_updates_are_those_of_a_run(tmp_path):
    """The same weights as `fit`, where the learning rate is constant."""
    asked, device = settings(tmp_path), torch.device("cpu")
    students = []
    for times in ("updates", "fit"):
        torch.manual_seed(0)
        trial = throughput.STAGES["teacher_forcing"](
            asked.world, lambda: throughput._fresh(asked.world, DotGame, device)
        )
        clips = ClipSampler(throughput._recording(asked, DotGame, trial), trial.clip_frames, 4, 0)
        constant = replace(trial.loop, steps=3, decay=0.0)
        if times == "fit":
            assert loop.fit(trial.stage, clips, constant, tmp_path, settings={})
        else:
            assert list(islice(loop.updates(trial.stage, clips, constant), 3)) == [1, 2, 3]
        students.append(trial.stage.average)
    assert all(torch.equal(a, b) for a, b in zip(*(student.parameters() for student in students), strict=True))


@pytest.mark.parametrize("stage", throughput.STAGES)
def test_the_figures_fit_together(stage, tmp_path):
    report = throughput.measure(settings(tmp_path, stage=stage, peak_tflops=2.0))
    assert report["updates_per_s"] == pytest.approx(2 / report["seconds"])
    assert report["frames_per_s"] == pytest.approx(4 * 4 * report["updates_per_s"])
    assert report["tflops"] == pytest.approx(report["flops_per_update"] * report["updates_per_s"] / 1e12)
    assert report["flops_per_update"] > 1e6 and report["warmup_s"] > 0
    assert set(report["matmul_tflops"]) == {64, 96} and report["share_of_peak"] == report["tflops"] / 2.0
    assert report["share_of_matmul"] == report["tflops"] / max(report["matmul_tflops"].values())
    assert "peak_memory_gib" not in report and report["device"] == "cpu"
    assert (report["batch"], report["clip_frames"], report["model"]["dim"]) == (4, 4, 16)
    assert (report["compile"], report["graphs"]) == (False, False)


def test_the_command_takes_a_size_and_writes_figures_and_profile(tmp_path, monkeypatch, capsys):
    tree = OmegaConf.to_container(OmegaConf.structured(settings(tmp_path).world))
    (tmp_path / "conf" / "world").mkdir(parents=True)
    OmegaConf.save(tree, tmp_path / "conf" / "world" / "dot.yaml")
    words = [
        "--config-dir",
        str(tmp_path / "conf"),
        "world=dot",
        "device=cpu",
        "compile=false",
        "warmup=1",
        "updates=1",
    ]
    words += ["world.model.dim=32", "world.teacher_forcing.loop.batch=2", "out=small/tf.json", "profile=true"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["throughput", *words])
    monkeypatch.setattr(throughput, "PROFILED_UPDATES", 1)
    throughput.main()
    report = json.loads((tmp_path / "small" / "tf.json").read_text())
    assert (report["model"]["dim"], report["batch"], report["updates"]) == (32, 2, 1)
    assert math.isfinite(report["tflops"]) and "peak_tflops" not in report
    head, titles, *rows = (tmp_path / "small" / "tf.profile.txt").read_text().splitlines()
    assert "ms an update" in head and titles.split() == ["share", "ms", "calls", "kernel"]
    assert len(rows) == kernel_times.ROWS and any("convolution" in row for row in rows)
    assert f"{report['updates_per_s']:.2f} updates/s" in capsys.readouterr().out


@pytest.mark.gpu
@pytest.mark.parametrize("stage", throughput.STAGES)
def test_a_gpu_is_timed_with_its_memory_and_kernels(stage, tmp_path, monkeypatch):
    monkeypatch.setitem(throughput.MATMUL_SIZES, "cuda", (512, 1024))
    report = throughput.measure(settings(tmp_path, stage=stage, device="cuda", profile=True))
    assert report["flops_per_update"] > 1e6 and 0 < report["share_of_matmul"] < 1
    assert 0 < report["peak_memory_gib"] < 8 and report["graphs"] is True
    _, _, *rows = (tmp_path / "out" / "run.profile.txt").read_text().splitlines()
    shares = [float(row.split()[0].rstrip("%")) for row in rows]
    assert len(rows) == kernel_times.ROWS and shares == sorted(shares, reverse=True) and sum(shares) <= 100.5


def test_a_profile_tells_shares_and_calls_for_one_repeat():
    a = torch.randn(300, 300)

    def work():
        for _ in range(4):
            (a @ a).exp()
        return 1.0

    head, _, *rows = kernel_times.table(work, 4, torch.device("cpu")).splitlines()
    assert head.startswith("250.00 ms an update")
    cells = {row.split()[3]: row.split()[:3] for row in rows}
    assert float(cells["aten::mm"][2]) == float(cells["aten::exp"][2]) == 1.0
    assert sum(float(share.rstrip("%")) for share, *_ in cells.values()) == pytest.approx(100, abs=0.1 * len(rows))


@pytest.mark.parametrize(
    ("top", "message"),
    [
        ({"stage": "export"}, "stage 'export' is not one that is timed; use one of teacher_forcing, consistency, dmd"),
        ({"updates": 0}, "updates is 0; use at least 1"),
        ({"peak_tflops": -1.0}, "peak_tflops is -1.0; give the device's"),
        ({"stage": "dmd", "updates": 3}, "but the student moves at every 2th update; use multiples of 2"),
        ({"world": {"dmd": {"frames": 0}}, "stage": "dmd"}, "world.dmd.frames is 0; use at least 1"),
        ({"device": "tpu"}, "unknown device 'tpu'; use auto, cpu, cuda or cuda:N"),
    ],
)
def test_settings_that_cannot_run_get_one_line(top, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        throughput.measure(settings(tmp_path, **top))
