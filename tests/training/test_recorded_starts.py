from dataclasses import replace

import numpy as np
import pytest
from counting_game import CountingGame

from worldsim_training.collect import CollectConfig, collect
from worldsim_training.dataset import Recording
from worldsim_training.recorded_starts import recorded_starts

COUNT, ACTION = 0, 1  # what a channel of CountingGame's frames shows
LENGTH = 4


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    folder = tmp_path_factory.mktemp("counting")
    collect(CollectConfig(out=str(folder), game="counting", frames=400, workers=1), CountingGame)
    return Recording.load(folder, "train", progress=False)


def test_a_start_is_a_past_of_one_episode_with_the_actions_between_its_frames(recording):
    starts = recorded_starts(recording, 200, LENGTH, seed=0)
    shown = starts.frames[:, :, 0, 0].astype(int)
    assert (np.diff(shown[..., COUNT]) == 1).all()
    assert (shown[:, 1:, ACTION] - 1 == starts.actions).all()


def test_every_moment_after_which_the_game_went_on_is_a_start_and_no_other(recording):
    numbers = np.arange(len(recording.frames), dtype=np.int32).reshape(-1, 1, 1, 1)
    starts = recorded_starts(replace(recording, frames=numbers), 8000, LENGTH, seed=0)
    begun = set(starts.frames[:, -1].flatten().tolist())
    episodes = zip(recording.offsets, recording.offsets[1:], strict=False)
    assert begun == {moment for first, end in episodes for moment in range(first + LENGTH - 1, end - 1)}
    assert recording.ended.any() and not recording.ended[list(begun)].any()


def test_other_seeds_choose_other_moments(recording):
    first, same, other = (recorded_starts(recording, 8, LENGTH, seed).frames for seed in (0, 0, 1))
    assert (first == same).all() and (first != other).any()


def test_a_recording_too_short_for_a_past_is_refused(recording):
    with pytest.raises(ValueError, match="no episode has 1000 frames; the longest of"):
        recorded_starts(recording, 1, 999, seed=0)
