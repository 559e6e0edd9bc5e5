"""The reader of reactions, on small recordings of the real game."""

from collections import Counter

import numpy as np
import pytest
import torch

from worldsim_envs.encounter.rules import REACTIONS
from worldsim_envs.games.encounter import Encounter
from worldsim_training import reactions
from worldsim_training.collect import CollectConfig, collect, record_episode
from worldsim_training.reactions import (
    AFTER,
    BEFORE,
    LABELS,
    ReactionReader,
    cut_windows,
    find_answer,
    label_episode,
    load_reader,
    play_episodes,
    read_dataset,
    ready_reader,
    save_reader,
    score_reader,
    train_reader,
)

pytestmark = pytest.mark.usefixtures("one_thread")
WAVE, FALL = LABELS.index("wave"), LABELS.index("fall")


@pytest.fixture(scope="module")
def episodes():
    game = Encounter()
    seeds = [(7, 0, index) for index in range(14)]
    return [label_episode(record_episode(game, "visitor", seed, 200), seed) for seed in seeds]


def test_labels_say_what_the_npc_does_in_each_frame(episodes):
    answers = [(episode, told) for episode in episodes for told in episode.answers]
    assert len(answers) > 40
    for episode, told in answers:
        assert LABELS[episode.labels[told.onset_frame]] == told.reaction
        assert episode.labels[told.onset_frame - 1] == 0
        assert find_answer(episode.labels, told.gesture_frame) == (told.reaction, told.onset_frame)


def test_an_npc_that_is_driven_has_no_label():
    episode = record_episode(Encounter(), "duet", (7, 0, 0), 120)
    driven = episode.actions[:, Encounter.actions.index("npc_driven")] == 1
    assert driven.any()
    assert np.array_equal(label_episode(episode, (7, 0, 0)).labels[1:] == -1, driven)


def test_a_recording_of_other_rules_is_refused():
    episode = record_episode(Encounter(), "visitor", (7, 0, 0), 20)
    with pytest.raises(ValueError, match="another game than this version plays"):
        label_episode(episode, (7, 0, 1))


def test_an_answer_is_looked_for_after_its_gesture_and_must_stay():
    labels = np.zeros(20, int)
    assert find_answer(labels, 3) == (None, None)
    labels[6] = WAVE
    assert find_answer(labels, 3) == (None, None)  # one frame alone is a misreading
    labels[7:9] = FALL
    assert find_answer(labels, 3) == ("fall", 7)
    assert find_answer(labels, 8) == (None, None)
    assert find_answer(labels[:8], 3) == (None, None)


def test_a_window_holds_the_frames_around_its_own():
    frames = np.arange(10, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    windows = cut_windows(frames, np.array([0, 5, 9]))[:, :, 0, 0, 0].tolist()
    assert (BEFORE, AFTER) == (1, 3)
    assert windows == [[0, 0, 1, 2, 3], [4, 5, 6, 7, 8], [8, 9, 9, 9, 9]]


def test_a_perfect_reader_scores_all_and_one_that_always_waves_is_found_out(episodes):
    class Known(ReactionReader):
        def read(self, frames):
            return next(each.labels for each in episodes if each.frames is frames)

    class Waving(ReactionReader):
        def read(self, frames):
            return np.full(len(frames), WAVE)

    perfect, waving = score_reader(Known(), episodes), score_reader(Waving(), episodes)
    assert (perfect["frames"], perfect["answers"], perfect["onset_error_frames"], perfect["false"]) == (1, 1, 0, 0)
    assert waving["false"] == 1 and waving["answers"] < 0.3 and waving["onset_error_frames"] > 1


def test_training_teaches_to_read_and_weights_survive_the_disk(episodes, tmp_path):
    assert {name for each in episodes for name in np.array(LABELS)[each.labels]} == {"idle", *REACTIONS}
    torch.manual_seed(0)
    reader = ReactionReader()
    untrained = score_reader(reader, episodes[:3])["frames"]
    train_reader(reader, episodes, np.random.default_rng(0), steps=40, batch=24)
    scores = score_reader(reader, episodes[:3])
    assert scores["frames"] > max(0.75, untrained)
    save_reader(reader, tmp_path / "reader.safetensors")
    assert score_reader(load_reader(tmp_path / "reader.safetensors"), episodes[:3]) == scores


def test_batches_show_all_labels_and_often_where_an_act_changes(episodes):
    rng, labels, hard = np.random.default_rng(0), Counter(), []
    places = reactions._places_by_label(episodes)
    for _ in range(20):
        labels.update(reactions._draw_batch(episodes, places, 32, rng)[1].tolist())
    assert set(labels) == set(range(len(LABELS))) and labels[0] > 2 * labels[WAVE]
    for every, near in places:
        assert 0 < len(near) < len(every)
    for i, frame in places[WAVE][1]:
        span = episodes[i].labels[max(0, frame - 3) : frame + 4]
        hard.append(len(set(span.tolist())) > 1)
    assert all(hard)


def test_a_reader_that_misreads_the_real_game_is_refused_but_kept(tmp_path):
    path = tmp_path / "reader.safetensors"
    with pytest.raises(ValueError, match=r"reads 0\.\d+ of \d+ real answers rightly, below 0\.98; train one with"):
        ready_reader(path, episodes=12, steps=2, held_out=2)
    assert path.is_file()


def test_a_reader_is_ready_with_its_scores_on_episodes_it_never_saw(monkeypatch, tmp_path):
    monkeypatch.setattr(reactions, "LEAST_ACCURACY", 0.0)
    path = tmp_path / "new" / "reader.safetensors"
    _, first = ready_reader(path, episodes=12, steps=2, held_out=2)
    reader, again = ready_reader(path, held_out=2)  # from the file: nothing is trained
    assert again == first == score_reader(reader, play_episodes("test", 2))


def test_a_recording_of_another_game_is_refused(tmp_path):
    from counting_game import CountingGame

    collect(CollectConfig(out=str(tmp_path), game="counting", frames=30, workers=1), CountingGame)
    with pytest.raises(ValueError, match="a recording of counting; reactions are read in encounter"):
        read_dataset(tmp_path, "train")


def test_a_file_without_a_reader_and_a_place_that_cannot_be_written_are_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no reader")
    with pytest.raises(ValueError, match="'.*file' holds no reader"):
        reactions.load_reader(tmp_path / "file")
    monkeypatch.setattr(reactions, "play_episodes", pytest.fail)
    with pytest.raises(SystemExit, match="reactions: cannot write '.*reader.safetensors'"):
        reactions.main(["--out", str(tmp_path / "file" / "reader.safetensors")])
