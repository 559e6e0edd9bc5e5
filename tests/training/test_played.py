"""Rounds that somebody played, as what training begins from."""

import json

import numpy as np
import pytest
from toy_game import ToyGame

from worldsim.player.episodes import EpisodeWriter
from worldsim.player.timeline import Timeline
from worldsim_training.collect import CollectConfig, collect, ensure
from worldsim_training.config import DataConfig
from worldsim_training.dataset import Recording
from worldsim_training.episodes import read_meta
from worldsim_training.provenance import check_game

FRAME = np.full((48, 64, 3), 7, np.uint8)


@pytest.fixture
def played():
    timeline = Timeline.of(3, FRAME)
    for step in range(4):
        timeline.add(step % 2, 1, FRAME + step, float(step))
    return timeline


def test_a_folder_of_played_rounds_is_taken_as_it_is(played, tmp_path):
    writer = EpisodeWriter(tmp_path, ToyGame.facts(), "real")
    for _ in range(3):
        writer.add(played, "human")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    ensure(DataConfig(folder=str(tmp_path), frames=10_000), ToyGame)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} and len(before) == 4
    for split in ("train", "validation", "test"):
        check_game(tmp_path, read_meta(tmp_path), ToyGame, split)
        recording = Recording.load(tmp_path, split, progress=False)
        assert np.array_equal(recording.frames, list(played.frames())) and recording.rewards.tolist() == [0, 0, 1, 2, 3]
        assert recording.policies == ("human",) and recording.spec == ToyGame.actions


def test_a_played_round_joins_the_training_split_of_a_recording(played, tmp_path):
    asked = CollectConfig(out=str(tmp_path), frames=200, episode_steps=40, workers=1)
    before = collect(asked, ToyGame)
    EpisodeWriter(tmp_path, ToyGame.facts(), "real").add(played, "human")
    after = collect(asked, ToyGame)
    assert after == json.loads((tmp_path / "meta.json").read_text())
    (added,) = [each for each in after["episodes"] if each not in before["episodes"]]
    assert added["split"] == "train" and added["policy"] == "human"
    assert after["split_frames"]["train"] == before["split_frames"]["train"] + 5


def test_a_damaged_round_is_named_and_nothing_is_put_in_its_place(played, tmp_path):
    alone, joined = tmp_path / "alone", tmp_path / "joined"
    collect(CollectConfig(out=str(joined), frames=200, episode_steps=40, workers=1), ToyGame)
    for folder in (alone, joined):
        path = EpisodeWriter(folder, ToyGame.facts(), "real").add(played, "human")
        path.write_bytes(path.read_bytes()[:-1])
        before = (folder / "meta.json").read_bytes()
        data = DataConfig(folder=str(folder), frames=200, episode_steps=40)
        with pytest.raises(ValueError, match=f"{path} is missing or damaged, and nobody plays it the same way again"):
            ensure(data, ToyGame)
        assert (folder / "meta.json").read_bytes() == before


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "letter.txt").write_text("")
    with pytest.raises(ValueError, match="holds other files"):
        EpisodeWriter(tmp_path, ToyGame.facts(), "real")
