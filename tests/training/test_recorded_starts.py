from dataclasses import replace

import numpy as np
import pytest
from counting_game import CountingGame

from worldsim_training.collect import CollectConfig, collect
from worldsim_training.dataset import Recording
from worldsim_training.recorded_starts import RecordedStarts

COUNT, ACTION = 0, 1  # what a channel of CountingGame's frames shows
LENGTH = 4


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    folder = tmp_path_factory.mktemp("counting")
    collect(CollectConfig(out=str(folder), game="counting", frames=400, workers=1), CountingGame)
    return Recording.load(folder, "train", progress=False)


def test_a_start_is_a_past_of_one_episode_with_the_actions_between_its_frames(recording):
    starts, rng = RecordedStarts(recording, LENGTH), np.random.default_rng(0)
    for _ in range(200):
        start = starts(0, rng)
        shown = start["frames"][:, 0, 0].astype(int)
        assert np.diff(shown[:, COUNT]).tolist() == [1] * (LENGTH - 1)
        assert (shown[1:, ACTION] - 1).tolist() == start["actions"].tolist()


def test_every_moment_after_which_the_game_went_on_is_a_start_and_no_other(recording):
    numbers = np.arange(len(recording.frames), dtype=np.int32).reshape(-1, 1, 1, 1)
    starts, rng = RecordedStarts(replace(recording, frames=numbers), LENGTH), np.random.default_rng(0)
    begun = {starts(0, rng)["frames"][-1].item() for _ in range(8000)}
    episodes = zip(recording.offsets, recording.offsets[1:], strict=False)
    assert begun == {moment for first, end in episodes for moment in range(first + LENGTH - 1, end - 1)}
    assert recording.ended.any() and not recording.ended[list(begun)].any()


def test_a_recording_too_short_for_a_past_is_refused(recording):
    with pytest.raises(ValueError, match="no episode has 1000 frames; the longest of"):
        RecordedStarts(recording, 999)
