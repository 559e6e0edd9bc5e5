"""The log of openings of the test split."""

import json

import pytest
from tiny import save_tiny_world, tiny_world
from toy_game import ToyGame

from worldsim.world_model import WorldModel
from worldsim_training import evaluate, openings
from worldsim_training.openings import Opening
from worldsim_training.report import page

OPENING = Opening("2026-11-24T23:25:47+00:00", "tiny", "ab" * 32, "worldsim eval tiny --split test", 3)


class Opened(Exception):
    """Ends an evaluation where it would begin to look."""


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder of a world of the toy game; its evaluation ends as soon as the split is open."""
    monkeypatch.setattr(evaluate, "check_fit", lambda *fit: None)

    def look(self):
        raise Opened

    monkeypatch.setattr(evaluate.Evaluation, "__post_init__", look)
    monkeypatch.setattr(evaluate, "source_game", lambda *names: ToyGame)
    return save_tiny_world(tmp_path / "tiny")


def evaluated(*words):
    with pytest.raises(Opened):
        evaluate.main([str(word) for word in words])


def test_every_evaluation_on_the_test_split_leaves_a_line_even_one_that_fails(world, capsys):
    for seed in (3, 4):
        evaluated(world, "--split", "test", "--seed", seed, "--quick")
    lines = [json.loads(line) for line in (world / openings.LOG).read_text().splitlines()]
    assert [line["seed"] for line in lines] == [3, 4]
    assert lines[1]["command"] == f"worldsim eval {world} --split test --seed 4 --device cpu --quick"
    assert {line["world_manifest_sha256"] for line in lines} == {WorldModel.from_pretrained(world).fingerprint}
    assert lines[0]["world"] == "tiny" and lines[0]["date"].endswith("+00:00")
    assert "time 2 for these weights" in capsys.readouterr().out


def test_validation_is_not_logged(world):
    evaluated(world, "--quick")
    assert not (world / openings.LOG).exists()


def test_a_world_that_cannot_be_written_to_is_logged_beside_the_figures_with_a_notice(world, tmp_path, capsys):
    (world / openings.LOG).mkdir()  # what makes it unwritable for root, too
    out = tmp_path / "out"
    evaluated(world, "--split", "test", "--json", out / "eval.json")
    assert len(openings.read(out)) == 1
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and f"folder '{world}' cannot be written to" in said


def test_the_split_stays_closed_where_nothing_can_be_logged(world, tmp_path, monkeypatch, capsys):
    for folder in (world, tmp_path):
        (folder / openings.LOG).mkdir()
    monkeypatch.chdir(tmp_path)
    assert evaluate.main([str(world), "--split", "test"]) == 2
    assert "opened only where that can be logged" in capsys.readouterr().err


def test_openings_are_counted_by_weights_over_both_logs(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        assert openings.note(OPENING, folder, tmp_path) == folder / openings.LOG
    assert openings.count(OPENING.world_manifest_sha256, here, there, there) == 2
    assert openings.count("cd" * 32, here, there) == 0
    assert openings.read(here) == [OPENING]


@pytest.mark.parametrize("line", ["{", "[]", '{"date": "today"}'])
def test_a_damaged_log_is_named_by_its_line_before_the_split_is_opened(line, world, capsys):
    openings.note(OPENING, world, world)
    with open(world / openings.LOG, "a") as log:
        log.write(line + "\n")
    assert evaluate.main([str(world), "--split", "test"]) == 2
    assert f"line 2 of {world / openings.LOG} tells no opening" in capsys.readouterr().err
    assert len((world / openings.LOG).read_text().splitlines()) == 2


def test_a_log_that_grows_does_not_damage_the_world_and_is_kept_when_it_is_saved_again(tmp_path):
    folder = save_tiny_world(tmp_path / "tiny")
    openings.note(OPENING, folder, folder)
    tiny_world().save_pretrained(folder)
    openings.note(OPENING, folder, folder)
    WorldModel.from_pretrained(folder)
    assert len(openings.read(folder)) == 2


def test_the_report_says_how_often_the_split_was_opened():
    pytest.importorskip("matplotlib")
    figures = {"world": "tiny", "split": "test"}
    shown = page.render([page.Entry("one", figures | {"test_split_opened": 3})])
    assert "measured on the test split, opened 3 times for these weights" in shown
    assert "opened how often is not told" in page.render([page.Entry("one", figures)])
