"""The ablation command: every cell is there, a second run does nothing, one that fails leaves the others alone."""

import json
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from worldsim_training import ablation, ablation_table, conf, config, journal
from worldsim_training.loop import TrainingFault
from worldsim_training.pipeline import Pipeline

pytestmark = pytest.mark.usefixtures("one_thread")

TINY_LOOP = {"steps": 2, "batch": 2, "learning_rate": 1e-3, "warmup": 1, "checkpoint_every": 2}
TINY = {
    "name": "dot",
    "game": "dot_game:DotGame",
    "model": {"dim": 16, "depth": 1, "heads": 2, "window": 3, "conv_widths": [8, 8]},
    "teacher_forcing": {"loop": TINY_LOOP},
    "bidirectional": {"loop": TINY_LOOP},
    "consistency": {"loop": TINY_LOOP, "intervals": 4},
    "ode": {"loop": TINY_LOOP, "intervals": 2, "points": 1},
    "dmd": {"loop": TINY_LOOP, "context_frames": 2, "frames": 2, "critic_per_student": 2, "evaluate_every": 1},
    "outcomes": {"loop": TINY_LOOP},
}
ALL = {"seeds": [3], "student_steps": [1, 4]}


def settings(folder, data=None, **changes):
    """An ablation of a tiny world of the dot game, recorded anew or in another ablation's folder."""
    world = {**TINY, "data": {"folder": str((data or folder) / "data"), "frames": 300, "clip_frames": 4}}
    tree = {"world": world, "out": str(folder / "run"), "device": "cpu", "compile": False}
    tree["validation_on_cpu"] = {"clips": 2, "frames": 4, "teacher_steps": 2}
    return OmegaConf.to_object(OmegaConf.merge(config.schema(config.AblationConfig), tree, changes))


def written(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """All cells of one seed at 1 and 4 steps."""
    folder = tmp_path_factory.mktemp("ablation")
    assert ablation.run(settings(folder, **ALL))
    return folder


def cells_of(folder):
    return json.loads((folder / "run" / "ablation.json").read_text())["cells"]


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc")
def test_processes_of_seeds_are_born_seeing_one_gpu_each(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-ab")
    born_with = []
    for gpu in ablation.visible_gpus():
        with ablation.worker_seeing(gpu) as worker:
            born_with += worker.submit(Path.read_bytes, Path("/proc/self/environ")).result().split(b"\0")
    assert b"CUDA_VISIBLE_DEVICES=5" in born_with and b"CUDA_VISIBLE_DEVICES=GPU-ab" in born_with
    assert ablation.visible_gpus() == ["5", "GPU-ab"]


def test_every_cell_is_run_and_scored_at_its_own_number_of_steps(finished):
    cells = cells_of(finished)
    seen = {(cell["distillation"], cell["scoring"], cell["student_steps"]) for cell in cells}
    ways, scorings = ("none", "ode", "consistency"), ("", "causal", "bidirectional")
    assert seen == {(way, scoring, steps) for way in ways for scoring in scorings for steps in (1, 4)}
    assert len(cells) == 18
    for cell in cells:
        assert "failed" not in cell and cell["updates"] == 2 and cell["device"].startswith("CPU")
        assert cell["scores"] == cell["scores_at_all_steps"][f"{cell['student_steps']}_step"]
        assert cell["seed"] == 3 and {"gain_1_db", "gain_4_db", "response_levels"} <= cell["scores"].keys()
        if cell["scoring"]:
            assert cell["student_updates"] == 1 and cell["kept_update"] in (0, 1)
            assert cell["score_change"] == pytest.approx(cell["last"]["score"] - cell["first"]["score"], abs=1e-3)


def test_a_cell_starts_from_the_shared_network_that_its_name_says(finished):
    run, names = finished / "run" / "seed_3", {"none": "teacher_forcing", "ode": "ode", "consistency": "consistency"}
    for way, stage in names.items():
        (start,) = (run / stage / "network").glob("*.safetensors")
        for scoring, teacher in (("causal", "teacher_forcing"), ("bidirectional", "bidirectional")):
            cell = run / f"dmd_{way}_{scoring}_4"
            assert (cell / stage / "network" / start.name).samefile(start)
            saved = OmegaConf.load(cell / "dmd" / "config.yaml")
            assert (saved.world.distillation, saved.world.dmd.scoring) == (way, scoring)
            assert saved.world.dmd.student_steps == 4 and (cell / teacher).resolve() == (run / teacher).resolve()


def test_the_tables_have_a_row_for_each_network_and_a_column_for_each_step_count(finished):
    text = (finished / "run" / "ablation.md").read_text()
    table = text.split("**Gain over the last frame shown again, 1 frame ahead, dB**")[1].split("**")[0].split("\n")
    rows = [[word.strip() for word in line.split("|")[1:-1]] for line in table if line.startswith("| ")]
    assert rows[0] == ["from", "distribution matching", "1 step", "4 step"]
    assert [row[:2] for row in rows[1:4]] == [
        ["teacher forcing", "none"],
        ["teacher forcing", "causal"],
        ["teacher forcing", "bidirectional"],
    ]
    expected = {
        (c["distillation"], c["scoring"], c["student_steps"]): c["scores"]["gain_1_db"] for c in cells_of(finished)
    }
    assert rows[1][2:] == [f"{expected['none', '', steps]:.2f}" for steps in (1, 4)] and len(rows) == 10
    assert "validation split" in text and "No cell failed." in text


def test_the_same_ablation_again_trains_nothing(finished, monkeypatch):
    def refuse(*arguments, **more):
        raise AssertionError("a finished stage builds nothing")

    monkeypatch.setattr(Pipeline, "_clips", refuse)
    before = written(finished)
    assert ablation.run(settings(finished, **ALL))
    touched = {path.name for path, at in written(finished).items() if before[path] != at}
    assert touched <= {"ablation.json", "ablation.md", "failures.json"}


def test_a_seed_reaches_the_weights_and_the_loop_of_every_stage(finished, tmp_path):
    one, other = (ablation.seeded(ablation._training(settings(tmp_path)), seed) for seed in (5, 6))
    for stage in ("bidirectional", "teacher_forcing", "consistency", "ode", "dmd"):
        assert [vars(each.world)[stage].loop.seed for each in (one, other)] == [5, 6]
    fresh = [dict(Pipeline(each)._fresh().named_parameters()) for each in (one, one, other)]
    same = {name: torch.equal(weight, fresh[1][name]) for name, weight in fresh[0].items()}
    assert all(same.values()) and not all(torch.equal(weight, fresh[2][name]) for name, weight in fresh[0].items())
    assert one.world.data.seed == other.world.data.seed


def test_a_cell_that_fails_is_written_down_and_the_others_go_on(finished, tmp_path, monkeypatch):
    train = Pipeline.dmd

    def fail_at_two(pipeline):
        if pipeline.world.dmd.student_steps == 1:
            raise TrainingFault("dmd: loss is not finite at step 1")
        return train(pipeline)

    monkeypatch.setattr(Pipeline, "dmd", fail_at_two)
    few = {"seeds": [0], "distillations": ["none"], "scorings": ["causal"], "student_steps": [1, 2]}
    assert ablation.run(settings(tmp_path, finished, **few))
    cells = {cell["student_steps"]: cell for cell in cells_of(tmp_path) if cell["scoring"]}
    assert cells[1]["failed"] == "dmd: loss is not finite at step 1" and "scores" not in cells[1]
    assert "failed" not in cells[2] and "scores" in cells[2]
    text = (tmp_path / "run" / "ablation.md").read_text()
    assert "- seed 0, teacher forcing then causal distribution matching, 1 step(s): dmd: loss is not finite" in text
    monkeypatch.setattr(Pipeline, "dmd", train)
    assert ablation.run(settings(tmp_path, finished, **few))  # what failed is tried again
    assert not any("failed" in cell for cell in cells_of(tmp_path))


def test_a_failed_gate_fails_what_needs_that_network_and_nothing_else(finished, tmp_path):
    few = {"seeds": [0], "distillations": ["ode"], "scorings": ["bidirectional"], "student_steps": [1]}
    gates = {"enabled": True, "teacher_gain_db": -99.0, "teacher_response_levels": None, "gain_loss_db": -99.0}
    assert ablation.run(settings(tmp_path, finished, **few, gates=gates))
    before, after = cells_of(tmp_path)
    assert before["failed"].startswith("stage ode failed its gate: gain_1_db is") and "scores" in before
    assert after["failed"] == "ode failed before it" and "scores" not in after
    assert (tmp_path / "run" / "seed_0" / "bidirectional" / "network").is_dir()


def test_an_ablation_stopped_again_and_again_comes_to_its_end(finished, tmp_path):
    few = {"seeds": [3], "distillations": ["none"], "scorings": ["causal"], "student_steps": [1]}
    chosen = settings(tmp_path, finished, **few, stop_after_s=1e-3)
    answers = [ablation.run(chosen)]
    while not answers[-1]:
        assert "cells are not done yet" in (tmp_path / "run" / "ablation.md").read_text()
        answers.append(ablation.run(chosen))
        assert len(answers) < 12
    assert len(answers) > 2
    straight = {(each["distillation"], each["scoring"], each["student_steps"]): each for each in cells_of(finished)}
    for cell in cells_of(tmp_path):
        assert cell["scores"] == straight[cell["distillation"], cell["scoring"], cell["student_steps"]]["scores"]


def test_seeds_in_processes_of_their_own_give_the_same_networks(finished, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as here; threads decide in which order sums are taken
    few = {"seeds": [3, 4], "distillations": ["none"], "scorings": ["causal"], "student_steps": [1]}
    chosen = settings(tmp_path, finished, **few, workers=2)
    assert ablation.run(chosen)
    here, there = (folder / "run/seed_3/dmd_none_causal_1/dmd/network" for folder in (finished, tmp_path))
    (mine,), (theirs,) = ([*path.glob("*.safetensors")] for path in (here, there))
    assert mine.read_bytes() == theirs.read_bytes()
    (other,) = (tmp_path / "run/seed_4/dmd_none_causal_1/dmd/network").glob("*.safetensors")
    assert other.read_bytes() != mine.read_bytes()
    assert (tmp_path / "run" / "seed_4" / ablation.OUTPUT).stat().st_size
    assert ablation_table.finished(chosen) == 4 and list(journal.read_log(tmp_path / "run/seed_4/teacher_forcing"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage": "dmd"}, "stage is 'dmd', but an ablation trains all that it compares; leave it out"),
        ({"seeds": [1, 1]}, r"seeds is \[1, 1\]; give at least one, none twice"),
        ({"student_steps": [3]}, r"student_steps is \[3\]; give some of 1, 2, 4, none twice"),
        ({"scorings": []}, r"scorings is \[\]; give some of causal, bidirectional, none twice"),
        ({"workers": 0}, "workers is 0; use at least 1"),
        ({"world": {"dmd": {"loop": {"steps": 0}}}}, "world.dmd.loop.steps is 0, which leaves nothing to compare"),
    ],
)
def test_wrong_settings_are_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        ablation.run(settings(tmp_path, **changes))


@pytest.mark.parametrize("name", sorted(path.stem for path in Path(conf.__file__).parent.glob("ablation/*.yaml")))
def test_every_preset_is_an_ablation_of_its_world(name):
    with initialize_config_module("worldsim_training.conf", version_base="1.3"):
        chosen = OmegaConf.to_object(compose("ablation", overrides=[f"ablation={name}"]))
    ablation.check(chosen)
    Pipeline(ablation._training(chosen))
    assert chosen.world.name == name and chosen.out == f"runs/ablation_{name}" and not chosen.gates.enabled
    assert len(chosen.seeds) == 3 and sum(len(ablation_table.cells(chosen, seed)) for seed in chosen.seeds) == 81
