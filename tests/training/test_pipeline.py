"""A run of every stage, from recording to the finished world."""

import hashlib
import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from dot_game import InverseDotGame
from omegaconf import OmegaConf
from PIL import Image
from tiny_run import run, settings, weights, written

from worldsim.world_model import WorldModel
from worldsim_training import __main__, checkpoint, dmd, journal, loop
from worldsim_training.collect import CollectConfig, collect
from worldsim_training.gates import GateFailed
from worldsim_training.pipeline import Pipeline

pytestmark = pytest.mark.usefixtures("one_thread", "dot_game")


def test_every_stage_leaves_its_configuration_scores_and_pictures(finished):
    for stage, samplers in (
        ("teacher_forcing", ("1_step", "2_step", "4_step", "3_step_ode")),
        ("consistency", ("1_step", "2_step", "4_step")),
    ):
        folder = finished / "run" / stage
        scores = json.loads((folder / "validation.json").read_text())
        assert tuple(scores) == samplers
        for name in samplers:
            ratios = {f"{what}_ratio" for what in ("motion", "sharpness", "saturation")}
            assert set(scores[name]) == {"gain_1_db", "gain_4_db", "drift_levels", "response_levels"} | ratios
            assert np.isfinite(list(scores[name].values())).all()
            assert np.asarray(Image.open(folder / f"strip_{name}.png")).std() > 10
    for stage in ("teacher_forcing", "consistency", "outcomes"):
        saved = OmegaConf.load(finished / "run" / stage / "config.yaml")
        assert OmegaConf.to_container(saved) == OmegaConf.to_container(OmegaConf.structured(settings(finished)))


def test_the_same_run_again_touches_nothing_but_the_exported_world(finished, capsys, monkeypatch):
    def refuse(*arguments, **more):
        raise AssertionError("a finished stage builds nothing")

    monkeypatch.setattr(Pipeline, "_clips", refuse)
    before = written(finished)
    world = weights(finished / "run" / "world")
    assert run(finished)
    assert {path for path, at in written(finished).items() if before[path] != at}.isdisjoint(
        path for path in before if path.parent.name != "world" and path.parent.parent.name != "world"
    )
    assert weights(finished / "run" / "world") == world
    assert capsys.readouterr().out.count("finished before; delete") == 3


def test_a_run_stopped_again_and_again_ends_in_the_same_bytes(finished, tmp_path):
    data = f"world.data.folder={finished / 'data'}"
    answers = []
    while not answers or not answers[-1]:
        answers.append(run(tmp_path, data, stop_after_s=1e-3))
        assert len(answers) < 20
    assert answers.count(False) >= 9
    for stage in ("teacher_forcing/network", "consistency/network", "outcomes/network", "world"):
        expected = {path.relative_to(finished): data for path, data in weights(finished / "run" / stage).items()}
        assert {
            path.relative_to(tmp_path): data for path, data in weights(tmp_path / "run" / stage).items()
        } == expected


def test_a_stage_killed_before_it_was_scored_is_scored_again_without_training(finished, tmp_path):
    data = f"world.data.folder={finished / 'data'}"
    assert run(tmp_path, data, stage="teacher_forcing")
    folder = tmp_path / "run" / "teacher_forcing"
    (folder / "validation.json").unlink()
    log = (folder / "log.jsonl").read_text()
    assert run(tmp_path, data, stage="teacher_forcing")
    assert (folder / "validation.json").is_file() and (folder / "log.jsonl").read_text() == log


def test_the_other_distillation_and_the_optional_first_stage_make_a_world_too(finished, tmp_path):
    changes = (f"world.data.folder={finished / 'data'}", "world.distillation=ode", "world.init=bidirectional")
    assert run(tmp_path, *changes, "world.teacher_forcing.loop.learning_rate=1e-60")
    out = tmp_path / "run"
    assert {path.name for path in out.iterdir()} == {"bidirectional", "teacher_forcing", "ode", "outcomes", "world"}
    first, second = (list(weights(out / stage / "network").values()) for stage in ("bidirectional", "teacher_forcing"))
    assert first == second  # which learnt nothing: in single precision that rate is 0
    assert tuple(json.loads((out / "ode" / "validation.json").read_text())) == ("1_step", "2_step", "4_step")
    trained = checkpoint.unpack("average", checkpoint.load(out / "ode" / loop.CHECKPOINT)[0])
    denoiser = WorldModel.from_pretrained(out / "world").denoiser
    assert all(torch.equal(trained[name].bfloat16(), value) for name, value in denoiser.state_dict().items())
    with pytest.raises(ValueError, match="outcomes was trained from another network than .*; delete that folder"):
        run(tmp_path, *changes, "world.distillation=consistency", "world.teacher_forcing.loop.learning_rate=1e-60")


def test_more_steps_go_on_where_fewer_ended(finished, tmp_path):
    data = f"world.data.folder={finished / 'data'}"
    assert run(tmp_path, data, stage="teacher_forcing")
    assert run(tmp_path, data, "world.teacher_forcing.loop.steps=6", stage="teacher_forcing")
    rows = journal.read_log(tmp_path / "run" / "teacher_forcing")
    assert [row["step"] for row in rows] == [2, 4, 6]


@pytest.mark.parametrize("budget", ["steps=3", "decay=0.5", "checkpoint_every=1"])
def test_a_stage_whose_budget_alone_changed_is_passed_by_where_it_is_at_its_end(distilled, budget):
    folder, data = distilled
    before = written(folder / "run")
    assert run(folder, data, f"world.teacher_forcing.loop.{budget}", stage="teacher_forcing")
    assert written(folder / "run") == before


def test_a_missing_earlier_stage_is_named(finished, tmp_path):
    for stage, needed in (
        ("consistency", "teacher_forcing"),
        ("ode", "teacher_forcing"),
        ("outcomes", "consistency"),
        ("export", "outcomes"),
    ):
        with pytest.raises(FileNotFoundError, match=f"run stage={needed} to its end first"):
            run(tmp_path, f"world.data.folder={finished / 'data'}", stage=stage)


DMD = (
    *("world.dmd.loop.steps=4", "world.dmd.loop.batch=2", "world.dmd.loop.checkpoint_every=2"),
    *("world.dmd.loop.learning_rate=1e-3", "world.dmd.context_frames=2", "world.dmd.frames=2"),
    *("world.dmd.critic_per_student=2", "world.dmd.evaluate_every=1", "world.dmd.consistency_weight=0.1"),
)


@pytest.fixture
def distilled(finished, tmp_path):
    """A folder whose first stages are done."""
    for stage in ("teacher_forcing", "consistency"):
        shutil.copytree(finished / "run" / stage, tmp_path / "run" / stage)
    return tmp_path, f"world.data.folder={finished / 'data'}"


def test_a_world_that_keeps_its_last_calls_is_trained_scored_and_exported_so(finished, tmp_path):
    data = f"world.data.folder={finished / 'data'}"
    learns = "world.context.kept_share=0.9", "world.context.painted_sigmas=[1.0,0.5]"
    keeps = *learns, "world.kept_sigma=0.7"
    folders = tmp_path / "keeping", tmp_path / "committing"
    for folder, changes in zip(folders, (keeps, learns), strict=True):
        assert run(folder, data, *changes, stage="teacher_forcing")
    kept, committed = (
        json.loads((folder / "run" / "teacher_forcing" / "validation.json").read_text()) for folder in folders
    )
    assert kept["1_step"] == committed["1_step"] and kept["2_step"] != committed["2_step"]
    assert run(folders[0], data, *keeps)
    assert WorldModel.from_pretrained(folders[0] / "run" / "world").info.kept_sigma == 0.7
    with pytest.raises(ValueError, match="teacher_forcing was trained with kept_sigma"):
        run(folders[0], data, *learns)


def test_distribution_matching_is_left_out_until_it_is_asked_for(finished, distilled):
    folder, data = distilled
    assert not (finished / "run" / "dmd").exists()
    with pytest.raises(ValueError, match="world.release is dmd, but world.dmd.loop.steps is 0"):
        run(folder, data, "world.release=dmd", stage="outcomes")


def test_a_world_is_released_from_the_stage_that_is_asked_for(finished, distilled):
    folder, data = distilled
    answers = []
    while not answers or not answers[-1]:
        answers.append(run(folder, data, *DMD, "world.release=dmd", "world.default_steps=1", stop_after_s=1e-3))
    assert answers.count(False) >= 6
    tensors, notes = checkpoint.load(folder / "run" / "dmd" / loop.CHECKPOINT)
    best = checkpoint.unpack("best", tensors)
    world = WorldModel.from_pretrained(folder / "run" / "world")
    assert world.info.default_steps == 1
    assert all(torch.equal(best[name].bfloat16(), value) for name, value in world.denoiser.state_dict().items())
    assert set(json.loads((folder / "run/dmd/validation.json").read_text())) == {"1_step", "2_step", "4_step"}
    (start,) = weights(folder / "run" / "consistency" / "network").values()
    assert notes["settings"]["start"] == hashlib.sha256(start).hexdigest() != notes["settings"]["teacher"]


def test_a_scorer_that_sees_whole_clips_is_trained_first(distilled):
    folder, data = distilled
    wanted = (*DMD, "world.dmd.scoring=bidirectional", "world.release=dmd")
    with pytest.raises(FileNotFoundError, match="run stage=bidirectional to its end first"):
        run(folder, data, *wanted, stage="dmd")
    assert run(folder, data, *wanted)
    notes = checkpoint.load_notes(folder / "run" / "dmd" / loop.CHECKPOINT)
    (teacher,) = weights(folder / "run" / "bidirectional" / "network").values()
    assert notes["settings"]["teacher"] == hashlib.sha256(teacher).hexdigest()


def test_distribution_matching_can_begin_from_teacher_forcing(distilled):
    folder, data = distilled
    assert run(folder, data, *DMD, "world.distillation=none", stage="dmd")
    notes = checkpoint.load_notes(folder / "run" / "dmd" / loop.CHECKPOINT)
    assert notes["settings"]["start"] == notes["settings"]["teacher"]


def test_scores_from_another_teacher_are_another_stage(distilled):
    folder, data = distilled
    assert run(folder, data, *DMD, stage="dmd")
    assert run(folder, data, "world.teacher_forcing.loop.steps=6", stage="teacher_forcing")
    with pytest.raises(ValueError, match="dmd was trained with another teacher than there is now; delete that folder"):
        run(folder, data, *DMD, stage="dmd")


def test_a_stage_that_was_stopped_is_no_ground_for_the_next(finished, tmp_path):
    data = f"world.data.folder={finished / 'data'}"
    assert not run(tmp_path, data, stage="teacher_forcing", stop_after_s=1e-3)
    with pytest.raises(FileNotFoundError, match="run stage=teacher_forcing to its end first"):
        run(tmp_path, data, stage="consistency")


def test_a_stage_trained_from_another_teacher_or_model_is_refused(finished, tmp_path):
    data = f"world.data.folder={finished / 'data'}"
    for stage in ("teacher_forcing", "consistency"):
        run(tmp_path, data, stage=stage)
    run(tmp_path, data, "world.teacher_forcing.loop.steps=6", stage="teacher_forcing")
    with pytest.raises(ValueError, match="consistency was trained from another network than .*; delete that folder"):
        run(tmp_path, data, stage="consistency")
    with pytest.raises(ValueError, match="teacher_forcing was trained with .*dim.* 16.*, now it is .*32"):
        run(tmp_path, data, "world.model.dim=32", stage="teacher_forcing")


def test_what_is_off_is_not_named_so_that_older_runs_go_on_and_what_is_on_is(finished):
    context = checkpoint.load_notes(finished / "run" / "teacher_forcing" / loop.CHECKPOINT)["settings"]["context"]
    assert "painted_share" in context and not [key for key in context if key.startswith(("kept_", "drifted_"))]
    outcomes = checkpoint.load_notes(finished / "run" / "outcomes" / loop.CHECKPOINT)["settings"]["stage"]
    assert "end_share" in outcomes and "lag" not in outcomes
    with pytest.raises(ValueError, match="teacher_forcing was trained with context.drifted_share off, now it is 0.5"):
        run(finished, "world.context.drifted_share=0.5", stage="teacher_forcing")


def test_what_was_on_and_is_off_is_another_stage(finished, tmp_path):
    data = f"world.data.folder={finished / 'data'}"
    assert run(tmp_path, data, "world.context.drifted_share=0.5", stage="teacher_forcing")
    with pytest.raises(ValueError, match="teacher_forcing was trained with context.drifted_share 0.5, now it is off"):
        run(tmp_path, data, stage="teacher_forcing")


def test_a_stage_is_not_continued_on_another_recording_in_the_same_folder(distilled):
    folder, _ = distilled
    asked = CollectConfig(out=str(folder / "data"), game="dot", frames=300, workers=1)
    settings = checkpoint.load_notes(folder / "run" / "teacher_forcing" / loop.CHECKPOINT)["settings"]
    for changes, seen in (
        ({"seed": 1}, "seed 0, now it is 1"),
        ({"policies": ["still"]}, r"policies \['random'\], now it is \['still'\]"),
        ({"policies": ["random"]}, f"episodes_sha256 {settings['recording']['episodes_sha256']}, now it is"),
    ):
        collect(replace(asked, **changes), InverseDotGame)
        for steps in (4, 6):  # a finished stage, and one that would go on
            with pytest.raises(ValueError, match=f"teacher_forcing was trained with recording.{seen}"):
                run(folder, f"world.teacher_forcing.loop.steps={steps}", stage="teacher_forcing")
        shutil.rmtree(folder / "data")


def test_a_finished_stage_asks_neither_for_its_recording_nor_was_it_always_named(distilled):
    folder, data = distilled
    before = written(folder / "run")
    assert run(folder, stage="teacher_forcing") and written(folder / "run") == before
    path = folder / "run" / "teacher_forcing" / loop.CHECKPOINT
    tensors, notes = checkpoint.load(path)
    del notes["settings"]["recording"]
    checkpoint.save(path, tensors, notes)
    before = written(folder / "run")
    assert run(folder, data, stage="teacher_forcing") and written(folder / "run") == before


def test_training_can_start_from_a_network(finished, tmp_path):
    start = finished / "run" / "teacher_forcing" / "network"
    changes = (f"world.data.folder={finished / 'data'}", f"world.init={start}")
    assert run(tmp_path, *changes, "world.teacher_forcing.loop.learning_rate=1e-60", stage="teacher_forcing")
    (there,), (here,) = (list(weights(path).values()) for path in (start, tmp_path / "run/teacher_forcing/network"))
    assert there == here


def test_a_stage_is_finished_wherever_the_network_that_it_began_from_has_gone(finished, tmp_path):
    start = shutil.copytree(finished / "run" / "teacher_forcing" / "network", tmp_path / "start")
    changes = (f"world.data.folder={finished / 'data'}", f"world.init={start}")
    assert run(tmp_path, *changes, stage="teacher_forcing")
    before = written(tmp_path / "run")
    start.rename(tmp_path / "elsewhere")
    assert run(tmp_path, *changes, stage="teacher_forcing") and written(tmp_path / "run") == before
    needed = "there is no .*start/config.json; let world.init be the folder of a network"
    with pytest.raises(FileNotFoundError, match=needed):
        run(tmp_path, *changes, "world.teacher_forcing.loop.steps=6", stage="teacher_forcing")
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match=needed):
        run(tmp_path, *changes)


# --- the gates ---

OPEN = {key: None for key in ("teacher_gain_db", "teacher_response_levels", "gain_loss_db", "response_share")}
OPEN |= {key: None for key in ("motion", "sharpness", "saturation", "drift_levels")}


def test_a_failed_gate_stops_the_run_after_the_stage_is_saved_and_says_so_again_without_training(
    finished, tmp_path, monkeypatch
):
    changes = (f"world.data.folder={finished / 'data'}", "gates.enabled=true", "gates.teacher_gain_db=60")
    said = "teacher_forcing failed its gate: gain_1_db is .*, gates.teacher_gain_db asks for more than 60"
    with pytest.raises(GateFailed, match=said) as first:
        run(tmp_path, *changes)
    before = written(tmp_path / "run")
    assert {path.parent.name for path in before} == {"teacher_forcing", "network"}
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "_clips", None)  # nothing is trained
        with pytest.raises(GateFailed) as again:
            run(tmp_path, *changes)
    assert str(first.value) == str(again.value) and written(tmp_path / "run") == before
    assert run(tmp_path, *changes, "gates.enabled=false", stage="teacher_forcing")
    assert written(tmp_path / "run") == before


def test_each_gate_can_be_left_out(finished, distilled):
    folder, data = distilled
    assert run(folder, data, stage="consistency", gates={"enabled": True, **OPEN})
    for key, asked in (("drift_levels", 0.0), ("saturation", [5.0, 6.0]), ("gain_loss_db", -60.0)):
        with pytest.raises(GateFailed, match=f"consistency failed its gate: .* gates.{key}[^;]* asks for [^;]*; give"):
            run(folder, data, stage="consistency", gates={"enabled": True, **OPEN, key: asked})


def test_scores_from_before_a_gate_are_asked_for_again(finished, distilled):
    folder, data = distilled
    path = folder / "run" / "consistency" / "validation.json"
    old = {name: {"gain_1_db": each["gain_1_db"]} for name, each in json.loads(path.read_text()).items()}
    path.write_text(json.dumps(old))
    open_gates = {"enabled": True, **OPEN}
    with pytest.raises(ValueError, match="validation.json lacks drift_levels.*; delete consistency/validation.json"):
        run(folder, data, stage="consistency", gates=open_gates)
    path.unlink()
    assert run(folder, data, stage="consistency", gates=open_gates) and "2_step" in json.loads(path.read_text())


def test_distribution_matching_ends_when_its_patience_does_and_is_finished_then(finished, distilled, monkeypatch):
    folder, data = distilled
    monkeypatch.setattr(dmd.PlayedScore, "__call__", lambda self, network: {"score": 0.0})
    wanted = (*DMD, "world.dmd.loop.steps=40", "world.dmd.patience=2")
    assert run(folder, data, *wanted, stage="dmd")
    rows = list(journal.read_log(folder / "run" / "dmd"))
    assert rows[-1]["step"] == 3 and sum(len(row["reviews"]) for row in rows) == 3  # the first, then two no better
    before = written(folder / "run" / "dmd")
    assert run(folder, data, *wanted, stage="dmd") and written(folder / "run" / "dmd") == before
    assert run(folder, data, *wanted, "world.dmd.patience=3", stage="dmd")
    assert [row["step"] for row in journal.read_log(folder / "run" / "dmd")][-1] == 5


# --- the command ---


def in_process(monkeypatch, folder, *words):
    """The command as typed in that folder, in this process, which knows the dot game."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["worldsim_training", *words])
    __main__.main()


@pytest.fixture
def own_world(finished, tmp_path):
    """Words that choose the tiny world, from a file of its own."""
    world = OmegaConf.to_container(OmegaConf.structured(settings(finished).world))
    (tmp_path / "conf" / "world").mkdir(parents=True)
    OmegaConf.save(world, tmp_path / "conf" / "world" / "dot.yaml")
    words = ["--config-dir", str(tmp_path / "conf"), "world=dot", "device=cpu", "compile=false", "gates.enabled=false"]
    return [*words, "validation_on_cpu.clips=2", "validation_on_cpu.frames=4"]


def test_the_jobs_of_a_multirun_never_share_a_folder(own_world, tmp_path, monkeypatch):
    words = ["-m", *own_world, "stage=teacher_forcing", "world.teacher_forcing.loop.seed=0,1"]
    in_process(monkeypatch, tmp_path, *words)
    first, second = sorted((tmp_path / "runs" / "dot").glob("*/teacher_forcing"))
    for seed, folder in enumerate((first, second)):
        assert f"world.teacher_forcing.loop.seed={seed}" in folder.parent.name
        saved = OmegaConf.load(folder / "config.yaml")
        assert saved.world.teacher_forcing.loop.seed == seed and saved.out == str(folder.parent)
    assert weights(first) != weights(second)
    before = written(tmp_path / "runs")
    in_process(monkeypatch, tmp_path, *words, "gates.teacher_gain_db=9")  # finds both finished
    assert {path.name for path, at in written(tmp_path / "runs").items() if before[path] != at} <= {"multirun.yaml"}


def test_a_job_of_a_multirun_that_fails_its_gate_does_not_keep_the_others_from_running(
    own_world, tmp_path, monkeypatch, capsys
):
    words = ["-m", *own_world, "stage=teacher_forcing", "gates.enabled=true", "gates.teacher_gain_db=60"]
    with pytest.raises(SystemExit, match="worldsim_training: 2 of the jobs stopped early: .*seed=0.*, .*seed=1"):
        in_process(monkeypatch, tmp_path, *words, "world.teacher_forcing.loop.seed=0,1")
    assert len([*(tmp_path / "runs" / "dot").glob("*/teacher_forcing/validation.json")]) == 2
    assert capsys.readouterr().err.count("asks for more than 60") == 2


def test_a_job_of_a_multirun_has_one_folder_whatever_its_overrides_hold(own_world, tmp_path, monkeypatch):
    sigmas, inits = ("[1.0,0.5]", "[1.0]"), ("a/../b", "a-..-b", "../../../b")
    many = [f"world.{stage}.loop.{name}" for stage in ("ode", "bidirectional") for name in ("warmup=1", "decay=0.1")]
    words = ["-m", *own_world, "stage=collect", *many]
    words += [f"world.context.painted_sigmas={','.join(sigmas)}", f"world.init={','.join(inits)}"]
    in_process(monkeypatch, tmp_path, *words)
    assert {path.name for path in tmp_path.iterdir()} == {"conf", "runs"}
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["dot"]
    jobs = [path.name for path in (tmp_path / "runs" / "dot").iterdir() if path.is_dir()]
    assert len(jobs) == len(sigmas) * len(inits) == len(list((tmp_path / "runs" / "dot").rglob("*"))) - 1
    assert all("world.context.painted_sigmas=[1.0" in name and "world=dot" in name for name in jobs)


def test_a_command_takes_its_options_after_its_overrides_and_says_what_it_did(own_world, tmp_path, monkeypatch, capsys):
    words = [*own_world[2:], "stage=teacher_forcing", "-m", "world.starts=2", *own_world[:2], "world.still_levels=0,1"]
    in_process(monkeypatch, tmp_path, *words)
    assert len(list((tmp_path / "runs" / "dot").glob("*/teacher_forcing/network"))) == 2
    assert capsys.readouterr().out.splitlines()[-1] == "stage teacher_forcing is done"


def test_a_whole_run_ends_with_where_its_world_lies_and_how_it_is_played(own_world, tmp_path, monkeypatch, capsys):
    in_process(monkeypatch, tmp_path, *own_world)
    told = ["world: runs/dot/world", "play it: worldsim play runs/dot/world"]
    assert capsys.readouterr().out.splitlines()[-2:] == told
    WorldModel.from_pretrained("runs/dot/world")


def test_the_folders_of_a_multirun_may_be_swept_over(own_world, tmp_path, monkeypatch):
    words = ["-m", *own_world, "stage=collect", "out=a,b"]
    in_process(monkeypatch, tmp_path, *words)
    assert all(len(list((tmp_path / out).iterdir())) == 1 for out in "ab")


def test_a_failed_gate_ends_the_command_in_one_line(own_world, tmp_path, monkeypatch):
    words = [*own_world, "stage=teacher_forcing", "gates.enabled=true", "gates.teacher_gain_db=60"]
    with pytest.raises(SystemExit, match="^worldsim_training: stage teacher_forcing failed its gate: [^\\n]*$"):
        in_process(monkeypatch, tmp_path, *words)
