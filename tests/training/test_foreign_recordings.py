"""A run on a recording that is not as its game is now, or not as it was recorded."""

import shutil

import numpy as np
import pytest
from dot_game import DotGame, InverseDotGame
from tiny_run import run

from worldsim.action import ActionSpec
from worldsim_envs import games
from worldsim_training import episodes

pytestmark = pytest.mark.usefixtures("one_thread", "dot_game")

OTHER = ActionSpec(DotGame.actions.channels, np.eye(4), names=("a", "b", "c", "d")).to_json()


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"actions": OTHER}, r"Discrete\(4\)\); dot has .*Discrete\(5\)\): record the game again"),
        ({"height": 96}, rf"has height 96; dot has {DotGame.height}: record the game again"),
        ({"fps": 7}, rf"has fps 7; dot has {DotGame.fps}: record the game again"),
    ],
)
def test_a_recording_of_another_form_is_refused_with_both(finished, tmp_path, told, words):
    meta = episodes.read_meta(finished / "data")
    shutil.copytree(finished / "data", tmp_path / "data")
    episodes.write_meta(tmp_path / "data", meta | told)
    with pytest.raises(ValueError, match=words):
        run(tmp_path, stage="teacher_forcing")


def test_a_recording_whose_pictures_its_game_no_longer_shows_is_refused(finished, tmp_path, monkeypatch):
    monkeypatch.setitem(games.GAMES, "dot", InverseDotGame)
    data = f"world.data.folder={finished / 'data'}"
    with pytest.raises(ValueError, match="dot now shows other pictures than .*data has: record the game again into"):
        run(tmp_path, data, stage="teacher_forcing")


class DotGameElsewhere(InverseDotGame):
    """On a machine without what draws it."""

    def __init__(self):
        raise ModuleNotFoundError("no module named 'dots'")


class DotGameWithoutPackage(InverseDotGame):
    packages = ("no-such-package",)


@pytest.mark.parametrize("game", [DotGameElsewhere, DotGameWithoutPackage])
def test_a_recording_is_trained_on_without_its_game(finished, tmp_path, monkeypatch, game):
    monkeypatch.setitem(games.GAMES, "dot", game)
    assert run(tmp_path, f"world.data.folder={finished / 'data'}", "world.distillation=none")


def test_a_damaged_recording_is_mended_by_the_whole_run_or_by_the_stage_that_its_error_names(finished, tmp_path):
    shutil.copytree(finished / "data", tmp_path / "data")
    path = tmp_path / "data" / "train" / "000001.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="000001.npz is damaged: .* the training command with stage=collect"):
        run(tmp_path, stage="teacher_forcing")
    assert run(tmp_path, "world.distillation=none") and path.read_bytes() == whole
    path.write_bytes(whole.replace(b"frames", b"flames"))
    assert run(tmp_path, stage="collect") and path.read_bytes() == whole


def test_a_damaged_recording_is_named_where_its_game_is_not_there_to_mend_it(finished, tmp_path, monkeypatch, capsys):
    shutil.copytree(finished / "data", tmp_path / "data")
    monkeypatch.setitem(games.GAMES, "dot", DotGameWithoutPackage)
    path = tmp_path / "data" / "train" / "000001.npz"
    path.unlink()
    with pytest.raises(ImportError, match="no-such-package"):
        run(tmp_path)
    assert f"recording again what is missing or damaged: {path}\n" in capsys.readouterr().err
