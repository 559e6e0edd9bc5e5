"""The last frames of long rollouts beside the real game's from the same moments."""

import numpy as np
import pytest

from worldsim_training.collapse import BLOCK, Reference
from worldsim_training.ends import compare_ends, play_on
from worldsim_training.heldout import Moment
from worldsim_training.mutants import blurred
from worldsim_training.stability import held_actions

STEPS, ROLLOUTS = 150, 6
RATIOS = [f"end_{name}_ratio" for name in ("motion", "sharpness", "saturation")]


@pytest.fixture(scope="module")
def judged(game, heldout):
    """What is compared with the real ends of six rollouts: (ends as they are, ends to judge) -> figures."""
    moments = heldout.moments(ROLLOUTS, past=4, future=STEPS, rng=np.random.default_rng(0))
    actions = held_actions(game, ROLLOUTS, STEPS, np.random.default_rng(1))
    real = [play_on(game, heldout, *each) for each in zip(moments, actions, strict=True)]
    reference = Reference.from_real([episode.frames for episode in heldout.episodes])

    def judge(change):
        ends = [change(frames) for frames in real]
        return compare_ends(ends, game, reference, heldout, moments, actions, rng=np.random.default_rng(2))

    return judge


def test_the_real_game_keeps_up_with_itself_exactly(judged):
    figures = judged(lambda frames: frames)
    assert [figures[f"{key}{end}"] for key in RATIOS for end in ("", "_low", "_high")] == [1.0] * 9
    assert (figures["end_colour_emd"], figures["end_rollouts"]) == (0.0, ROLLOUTS)


@pytest.mark.parametrize(
    ("change", "ratios"),
    [
        (lambda frames: np.repeat(frames[:1], BLOCK, axis=0), (0.0, None, None)),
        (lambda frames: blurred(frames, 0), (None, 0.5, None)),
        (lambda frames: np.repeat(frames.mean(axis=-1, keepdims=True).astype(np.uint8), 3, axis=-1), (None, None, 0)),
    ],
    ids=["frozen", "blurred", "grey"],
)
def test_a_fault_shows_in_its_own_ratio(judged, change, ratios):
    figures = judged(change)
    for key, most in zip(RATIOS, ratios, strict=True):
        if most is not None:
            assert figures[key] <= most and figures[f"{key}_low"] <= figures[key] <= figures[f"{key}_high"]


def test_the_interval_is_as_wide_as_the_episodes_differ(judged):
    turn = iter(range(ROLLOUTS))  # moments take turns in three episodes; in the first all stands still
    figures = judged(lambda frames: np.repeat(frames[:1], BLOCK, axis=0) if next(turn) % 3 == 0 else frames)
    low, high = (figures[f"end_motion_ratio{end}"] for end in ("_low", "_high"))
    assert low < 0.4 and high == 1.0 and 0.6 < figures["end_motion_ratio"] < 0.75


def test_the_real_game_shows_what_was_recorded_where_it_is_played_alike(game, heldout):
    episode = heldout.episodes[1]
    shown = play_on(game, heldout, Moment(1, 21), episode.actions[21:171])
    np.testing.assert_array_equal(shown, episode.frames[171 - BLOCK + 1 : 172])


def test_a_game_that_ends_early_shows_the_frames_up_to_its_end(game, heldout):
    episode = heldout.episodes[2]
    assert len(episode.actions) == 340
    shown = play_on(game, heldout, Moment(2, 320), np.concatenate([episode.actions[320:], np.zeros(50, int)]))
    np.testing.assert_array_equal(shown, episode.frames[-BLOCK:])


def test_a_real_game_of_too_few_frames_is_compared_with_nothing(game, heldout):
    moments, actions = [Moment(0, 10), Moment(0, 20)], np.zeros((2, 50), int)
    reference = Reference.from_real([episode.frames for episode in heldout.episodes])
    assert [len(play_on(game, heldout, *each)) for each in zip(moments, actions, strict=True)] == [61, 64]
    ends, rng = [heldout.episodes[0].frames[:BLOCK]] * 2, np.random.default_rng(0)
    assert compare_ends(ends, game, reference, heldout, moments, actions, rng=rng)["end_rollouts"] == 1
    assert compare_ends(ends[:1], game, reference, heldout, moments[:1], actions[:1], rng=rng) == {}
    short = [frames[1:] for frames in ends]
    assert compare_ends(short, game, reference, heldout, moments, actions, rng=rng) == {}
