"""The measures: known answers, and real rollouts against broken copies of them."""

import numpy as np
import pytest
from toy_game import ToyGame

from worldsim_training import collapse, metrics, mutants
from worldsim_training.stability import appoint_judge, check_judge, make_mutants


def noise(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_pooled_psnr_is_that_of_the_mean_error_and_not_the_mean_of_psnrs():
    assert metrics.pooled_psnr(np.array([255.0**2])) == pytest.approx(0.0)
    assert metrics.pooled_psnr(np.array([1.0, 3.0])) == pytest.approx(10 * np.log10(255**2 / 2))
    assert metrics.pooled_psnr(np.zeros(3)) == pytest.approx(68.13, abs=0.01)


def test_squared_error_does_not_wrap_around_in_uint8():
    black, white = np.zeros((2, 4, 6, 3), np.uint8), np.full((2, 4, 6, 3), 255, np.uint8)
    assert metrics.squared_error(black, white) == pytest.approx([255.0**2] * 2)
    with pytest.raises(ValueError, match=r"shape \(2, 4, 6, 3\).*\(2, 4, 7, 3\)"):
        metrics.squared_error(black, np.zeros((2, 4, 7, 3), np.uint8))


def test_halving_the_error_gains_three_decibels():
    errors = np.array([4.0, 8.0, 12.0])
    assert metrics.gain_over(errors / 2, errors) == pytest.approx(10 * np.log10(2))
    assert metrics.gain_over(errors, errors) == 0.0


def test_the_bootstrap_draws_whole_episodes():
    # Two episodes of 50 equal windows each: resampled means can only be 0, 1 or 1/2.
    groups, values = np.repeat([0, 1], 50), np.repeat([0.0, 1.0], 50)
    seen = set()
    metrics.bootstrap_interval(
        lambda v: seen.add(float(v.mean())) or float(v.mean()), groups, values, rng=np.random.default_rng(0)
    )
    assert seen == {0.0, 0.5, 1.0}
    assert metrics.bootstrap_interval(np.mean, groups, values, rng=np.random.default_rng(0)) == (0.0, 1.0)


def test_motion_of_a_picture_that_brightens_by_two_levels_is_two():
    frames = np.stack([np.full((5, 7, 3), 2 * t, np.uint8) for t in range(4)])
    assert metrics.motion(frames) == pytest.approx([2.0] * 3)
    assert metrics.changed_pixels(frames).tolist() == [0, 0, 0]
    assert metrics.changed_pixels(frames, levels=1).tolist() == [35, 35, 35]


def test_sharpness_of_a_flat_picture_is_zero_and_blurring_lowers_that_of_noise():
    flat, sharp = np.full((1, 12, 16, 3), 90, np.uint8), noise(0, 4, 12, 16, 3)
    assert metrics.sharpness(flat) == pytest.approx([0.0])
    assert np.all(metrics.sharpness(mutants.blurred(sharp, 0)) < 0.3 * metrics.sharpness(sharp))


def test_sharpness_is_read_on_the_mask_only():
    frames = noise(1, 1, 12, 16, 3)
    frames[:, :, :9] = 100
    mask = np.zeros((12, 16), bool)
    mask[:, :8] = True
    assert metrics.sharpness(frames, mask) == pytest.approx([0.0])
    assert metrics.sharpness(frames) > 0


def test_saturation_of_grey_is_zero_and_of_pure_red_is_all():
    red = np.zeros((1, 4, 6, 3), np.uint8)
    red[..., 0] = 255
    assert metrics.saturation(np.full((1, 4, 6, 3), 77, np.uint8)) == pytest.approx([0.0])
    assert metrics.saturation(red) == pytest.approx([255.0])


def test_spreading_a_sprite_keeps_its_sum_and_lowers_its_contrast():
    background, mask = np.zeros((6, 8, 3), np.uint8), np.ones((6, 8), bool)
    sharp, spread = (np.zeros((1, 6, 8, 3), np.uint8) for _ in range(2))
    sharp[:, 2, 2], spread[:, 2, 2:4] = 200, 100
    assert metrics.contrast(spread, background, mask) == pytest.approx(metrics.contrast(sharp, background, mask) / 2)


def test_the_colour_distance_of_a_shift_by_ten_levels_is_ten():
    frames = np.random.default_rng(2).integers(0, 240, (3, 8, 10, 3), dtype=np.uint8)
    before, after = metrics.colour_cumulative(frames), metrics.colour_cumulative(frames + 10)
    assert metrics.colour_distance(after, before) == pytest.approx([10.0] * 3)


def test_the_nearest_frame_of_a_member_is_itself():
    frames = noise(3, 5, 6, 8, 3)
    assert metrics.nearest_psnr(frames, frames) == pytest.approx([68.13] * 5, abs=1.0)
    far = metrics.nearest_psnr(frames[:1], frames[1:])[0]
    direct = [metrics.pooled_psnr(metrics.squared_error(frames[0], other)) for other in frames[1:]]
    assert far == pytest.approx(max(direct), abs=1e-3)


def test_the_longest_run_is_found_at_either_end_and_in_the_middle():
    assert metrics.longest_run(np.array([1, 1, 0, 1], bool)) == 2
    assert metrics.longest_run(np.array([0, 1, 1, 1], bool)) == 3
    assert metrics.longest_run(np.array([0, 1, 0], bool)) == 1
    assert metrics.longest_run(np.zeros(3, bool)) == 0


def test_a_moving_average_longer_than_its_input_is_the_mean():
    assert metrics.moving_average(np.arange(4.0), 2) == pytest.approx([0.5, 1.5, 2.5])
    assert metrics.moving_average(np.arange(4.0), 9) == pytest.approx([1.5])


def test_the_sign_test_credits_only_two_right_signs():
    back = np.array([-4.0, 4.0, -4.0, -0.1, np.nan, -4.0])
    forth = np.array([4.0, -4.0, -4.0, 4.0, 4.0, np.nan])
    assert metrics.sign_credit(back, forth).tolist() == [True, False, False, False, False, False]


def test_a_sprite_that_steps_aside_ends_its_stay():
    track = np.array([[5, 5], [5, 5], [5.4, 5], [7, 5], [7, 5], [np.nan, np.nan], [7, 5]], dtype=float)
    assert collapse.longest_stay(track) == 2


@pytest.fixture(scope="module")
def game():
    return ToyGame()


@pytest.fixture(scope="module")
def rollouts(game):
    """Nine real rollouts of 160 frames, of nine episodes."""
    return [game.rollout(160, seed) for seed in range(9)]


@pytest.fixture(scope="module")
def judge(game, rollouts):
    return appoint_judge(game, rollouts[:3], rollouts[3:6], rollouts)


def test_no_real_rollout_collapses(judge, rollouts):
    assert [judge.reasons(frames) for frames in rollouts[6:]] == [()] * 3


@pytest.mark.parametrize(
    "name",
    ["frozen", "blurred", "smeared", "noisy", "saturated", "faded", "player erased", "opponent erased"],
)
def test_a_broken_rollout_collapses_for_the_right_reason(name, game, judge, rollouts):
    mutant, expected = make_mutants(game, rollouts[6], np.random.default_rng(0))[name]
    assert mutant.shape == rollouts[6].shape and mutant.dtype == np.uint8
    np.testing.assert_array_equal(mutant[:80], rollouts[6][:80])
    assert expected.intersection(judge.reasons(mutant)), judge.signs(mutant)


def test_a_player_that_stays_while_the_game_goes_on_is_stuck(game, judge):
    frames = game.rollout(160, seed=6, action=0)
    assert judge.reasons(frames) == ("stuck",)


def test_a_check_that_finds_a_broken_real_rollout_refuses_to_judge(judge, rollouts):
    with pytest.raises(ValueError, match="collapse test refused: a real rollout is .*smeared"):
        check_judge(judge, [mutants.blurred(rollouts[6], 0)], np.random.default_rng(0))


def test_a_check_that_misses_a_mutant_refuses_to_judge(game, rollouts):
    blind = appoint_judge(game, rollouts[:3], [*rollouts[3:6], mutants.saturated(rollouts[6], 0)], rollouts)
    with pytest.raises(ValueError, match="collapse test refused: a real rollout that was"):
        check_judge(blind, rollouts[7:], np.random.default_rng(0))
