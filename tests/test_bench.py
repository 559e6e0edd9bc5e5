"""The speed measurement, on a tiny world."""

import argparse
import json
import time

import pytest
import torch
from tiny import save_tiny_world, tiny_world

from worldsim import bench
from worldsim.benchmark import batches
from worldsim.benchmark.agreement import agreement


@pytest.fixture(autouse=True)
def threads():
    """Leave the thread count as it was; one thread is also quickest where other tests run beside these."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def arguments(*words):
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def test_the_command_writes_a_flat_object_with_all_figures(tmp_path, capsys):
    folder = save_tiny_world(tmp_path / "tiny")
    file = tmp_path / "out" / "bench.json"
    assert bench.run(arguments(folder, "--json", file, "--frames", 20, "--steps", 1, "--threads", 1)) == 0
    report = json.loads(file.read_text())
    figures = {
        "frame_ms_p99",
        "input_to_frame_ms_p95",
        "compile_s",
        "memory_peak_mb",
        "fps_all_in",
        "frame_ms_p50",
        "frame_ms_p95",
        "frame_ms_min",
        "steps",
        "threads",
        "first_frame_s",
        "load_s",
    }
    stages = {"paint_ms", "commit_ms", "heads_ms", "convert_ms"}
    told = {
        "engine",
        "parameters",
        "resolution",
        "window_frames",
        "dtype",
        "version_torch",
        "cpu",
        "load_1_min",
        "warning",
    }
    assert figures | stages | told <= set(report)
    assert {type(value) for value in report.values()} <= {int, float, str}
    assert (report["steps"], report["threads"], report["frames"]) == (1, 1, 20)
    assert (report["resolution"], report["window_frames"], report["dtype"]) == ("64x48", 4, "bfloat16")
    assert report["parameters"] == sum(weight.numel() for weight in tiny_world().denoiser.parameters())
    assert "frames/s" in capsys.readouterr().out


def test_times_are_ordered_and_frames_a_second_are_frames_over_time():
    report = bench.bench(tiny_world(), frames=20, steps=2, progress=False)
    assert 0 < report["frame_ms_min"] <= report["frame_ms_p50"] <= report["frame_ms_p95"] <= report["frame_ms_max"]
    assert report["frame_ms_min"] <= 1e3 / report["fps_all_in"] <= 1.5 * report["frame_ms_max"]


def test_a_slow_commit_is_found_in_the_commit_and_in_the_whole(monkeypatch):
    model = tiny_world()
    commit = model.denoiser.commit

    def slow(*args):
        time.sleep(0.02)
        return commit(*args)

    monkeypatch.setattr(model.denoiser, "commit", slow)
    report = bench.bench(model, frames=5, steps=1, progress=False)
    assert report["frame_ms_min"] >= 20 and report["commit_ms"] >= 15


def test_the_window_is_full_before_timing_starts(monkeypatch):
    model, counts = tiny_world(window=30), []
    step = model.step
    monkeypatch.setattr(
        model, "step", lambda state, *args, **how: counts.append(state.step_count) or step(state, *args, **how)
    )
    report = bench.bench(model, frames=3, steps=1, progress=False)
    assert model.starts.frames.shape[1] + counts[-3] >= model.info.window_frames
    assert report["warmup_frames"] == bench.WARMUP_FRAMES


def test_a_busy_machine_is_warned_of():
    assert bench.busy_warning(0.1) == ""
    assert bench.busy_warning(2.0).startswith("this machine is busy (load 2.0)")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", 3], r"steps=3 is not a trained step count; use one of \(1, 2, 4\)"),
        (["--frames", 0], "frames is 0; use at least 1"),
        (["--threads", -1], "threads is -1; use at least 1"),
        (["--seed", -1], "seed is -1; use 0 or more"),
        (["--json", "."], "'.' is a folder; give the name of a file"),
        (["--plot", "p.txt"], "cannot draw 'p.txt'; give a name that ends in .png or .svg"),
        (["--against", "nosuch.py"], "no adapter 'nosuch.py'; give its .py file, or plain"),
    ],
)
def test_bad_arguments_get_one_line_that_says_what_would_be_right(words, message, tmp_path):
    folder = save_tiny_world(tmp_path / "tiny")
    with pytest.raises((ValueError, OSError), match=message):
        bench.run(arguments(folder, *words))


@pytest.fixture
def short(monkeypatch):
    for name, value in {"PAIRS": 2, "TURN_CALLS": 2, "TURN_FRAMES": 4, "CALLS": 2, "SECONDS": 0.0}.items():
        monkeypatch.setattr(batches, name, value)


def test_batches_are_timed_and_their_environments_against_one_in_pairs(tmp_path, capsys, short):
    folder, file = save_tiny_world(tmp_path / "tiny"), tmp_path / "bench.json"
    assert bench.run(arguments(folder, "--json", file, "--frames", 3, "--threads", 1, "--batch", "3/1")) == 0
    report = json.loads(file.read_text())
    assert report["batch"] == "3/1" and report["command"].endswith("--batch 3/1")
    for worlds in (1, 3):
        found = {name.removeprefix(f"batch_{worlds}_"): value for name, value in report.items()}
        assert 0 < found["ratio_min"] <= found["ratio_p50"] <= found["ratio_max"]
        assert min(found["env_steps_per_s"], found["single_env_steps_per_s"], found["paint_ms"]) > 0
        assert found["fps"] == pytest.approx(1e3 * worlds / found["frame_ms_p50"])
        share = found["fps"] * report["frame_gflop"] / report["matmul_gflop_per_s"]
        assert found["roofline_share_of_best"] == pytest.approx(share)
        assert (found["engine"], found["graphs"]) == ("packed", "no")
    assert capsys.readouterr().out.count("batch of 3") == 2


def test_a_batch_that_fails_says_so_in_one_line_and_the_others_are_timed(capsys, monkeypatch, short):
    model = tiny_world()
    step = model.step

    def scarce(state, *args, **how):
        if len(state.last) == 4:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 9 GiB")
        return step(state, *args, **how)

    monkeypatch.setattr(model, "step", scarce)
    report = batches.bench_batches(model, [4, 2], steps=1, gflop=1.0, rate=100.0, seed=0)
    assert report["batch_4_error"] == "CUDA out of memory." and report["batch_2_fps"] > 0
    assert "batch of 4    failed: CUDA out of memory." in capsys.readouterr().out


def test_agreement_is_exact_with_the_world_itself_and_finds_another_one():
    model = tiny_world()
    same = agreement(model, tiny_world(), frames=3, steps=1, seed=0)
    assert (same["agree_mean_levels"], same["agree_outcomes_share"], same["agree_within_1_level"]) == (0, 1, "yes")
    other = agreement(model, tiny_world(seed=1), frames=3, steps=1, seed=0)
    assert other["agree_mean_levels"] > 5 and other["agree_within_1_level"] == "no"
    assert other["agree_worst_levels"] >= other["agree_mean_levels"]


def test_agreement_of_code_compiled_for_one_world_is_that_of_one_world(monkeypatch):
    model, sizes = tiny_world(), []
    step = model.step
    monkeypatch.setattr(type(model), "engine", "compiled")  # of both, which matters to neither
    monkeypatch.setattr(
        model, "step", lambda state, action, **how: sizes.append(len(action)) or step(state, action, **how)
    )
    assert model.engine == "compiled"
    assert agreement(model, tiny_world(), frames=2, steps=1, seed=0)["agree_frames"] == 16 and {*sizes} == {1}


@pytest.mark.parametrize("text", ["", "0", "1/", "-2", "a", "1/2/x"])
def test_a_list_of_batches_that_is_none_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is no list of numbers above 0, such as 16 or 1/16/256"):
        batches.sizes(text)
