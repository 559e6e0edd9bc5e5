"""The outcome head's stage in a run: where it begins, which clips it learns, how far it looks back."""

import json
import shutil

import pytest
from tiny_run import run, weights, written

from worldsim.world_model import WorldModel
from worldsim_training import outcomes, pipeline

pytestmark = pytest.mark.usefixtures("one_thread", "dot_game")


def test_a_game_with_too_many_different_rewards_is_refused_before_anything_is_trained(finished, tmp_path, monkeypatch):
    data = f"world.data.folder={finished / 'data'}"
    monkeypatch.setattr(pipeline, "MOST_REWARDS", 1)
    with pytest.raises(ValueError, match="dot gave 2 different rewards; the head tells 1 apart: round them in the"):
        run(tmp_path, data)
    assert not (tmp_path / "run").exists()
    assert run(tmp_path, data, stage="teacher_forcing")  # its network knows no rewards


def test_a_head_can_be_trained_on_and_learns_rewards_that_are_new_to_it(finished, tmp_path, capsys):
    start = finished / "run" / "outcomes" / "network"
    shutil.copytree(finished / "run" / "consistency", tmp_path / "run" / "consistency")
    changes = (f"world.data.folder={finished / 'data'}", "world.outcomes.loop.learning_rate=1e-60")
    assert run(tmp_path, *changes, f"world.outcomes.init={start}", stage="outcomes")
    (there,), (here,) = (list(weights(path).values()) for path in (start, tmp_path / "run/outcomes/network"))
    assert there == here
    other = shutil.copytree(start, tmp_path / "other")
    assert run(tmp_path, *changes, f"world.outcomes.init={other}", stage="outcomes")  # the same head in another place
    assert "new to the head" not in capsys.readouterr().out
    config = json.loads((start / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"rewards": [0.0, 2.0]}))
    shutil.rmtree(tmp_path / "run" / "outcomes")
    assert run(tmp_path, *changes, f"world.outcomes.init={other}", stage="outcomes")
    assert f"outcomes: rewards 1 are new to the head in {other}" in capsys.readouterr().out
    grown = json.loads((tmp_path / "run" / "outcomes" / "network" / "config.json").read_text())
    assert grown["rewards"] == [0.0, 1.0, 2.0]


def test_a_head_that_was_trained_on_is_finished_wherever_the_one_that_it_began_from_has_gone(finished, tmp_path):
    start = shutil.copytree(finished / "run" / "outcomes" / "network", tmp_path / "start")
    shutil.copytree(finished / "run" / "consistency", tmp_path / "run" / "consistency")
    changes = (f"world.data.folder={finished / 'data'}", f"world.outcomes.init={start}")
    assert run(tmp_path, *changes, stage="outcomes")
    before = written(tmp_path / "run" / "outcomes")
    start.rename(tmp_path / "elsewhere")
    assert run(tmp_path, *changes, stage="outcomes") and written(tmp_path / "run" / "outcomes") == before
    with pytest.raises(ValueError, match="outcomes was trained with stage.loop.learning_rate"):
        run(tmp_path, *changes, "world.outcomes.loop.learning_rate=1e-60", stage="outcomes")
    needed = "there is no .*start/config.json; let world.outcomes.init be the folder of a head"
    with pytest.raises(FileNotFoundError, match=needed):
        run(tmp_path, *changes, "world.outcomes.loop.steps=6", stage="outcomes")
    shutil.rmtree(tmp_path / "run" / "outcomes")
    with pytest.raises(FileNotFoundError, match=needed):
        run(tmp_path, *changes, stage="outcomes")


def test_clips_are_drawn_around_what_a_head_that_looks_back_learns(finished, tmp_path, monkeypatch):
    seen, loss = [], outcomes.Outcomes.loss
    monkeypatch.setattr(
        outcomes.Outcomes, "loss", lambda stage, clip, *rest: seen.append(clip) or loss(stage, clip, *rest)
    )
    shutil.copytree(finished / "run" / "consistency", tmp_path / "run" / "consistency")
    changes = ("outcomes.lag=3", "outcomes.reward_share=1", "outcomes.end_share=0", "outcomes.loop.batch=32")
    assert run(
        tmp_path, f"world.data.folder={finished / 'data'}", *(f"world.{each}" for each in changes), stage="outcomes"
    )
    assert seen and all(((clip.rewards[:, 3:] != 0).any(dim=1) | ~clip.known[:, 0]).all() for clip in seen)


def test_clips_are_drawn_anywhere_with_a_warning_where_no_recorded_game_ends(tmp_path, capsys):
    assert run(tmp_path, "world.data.episode_steps=20")
    (warning,) = (line for line in capsys.readouterr().err.splitlines() if "warning" in line)
    assert "has no ends of games to draw clips around, so world.outcomes.end_share counts as 0" in warning


def test_a_head_looks_back_as_far_as_it_is_told_to_but_not_beyond_its_clips(finished, tmp_path):
    shutil.copytree(finished / "run" / "consistency", tmp_path / "run" / "consistency")
    changes = (f"world.data.folder={finished / 'data'}", "world.outcomes.loop.steps=2", "world.outcomes.loop.warmup=1")
    assert run(tmp_path, *changes, "world.outcomes.lag=3", stage="outcomes")
    assert run(tmp_path, *changes, "world.outcomes.lag=3", stage="export")
    world = WorldModel.from_pretrained(tmp_path / "run" / "world")
    assert world.heads.config.lag == 3 and world.empty_state().past.shape[1] == 3
    for lag in (0, 99):
        with pytest.raises(ValueError, match=f"world.outcomes.lag is {lag}; a head looks back 1 step or more"):
            run(tmp_path, *changes, f"world.outcomes.lag={lag}", stage="teacher_forcing")
