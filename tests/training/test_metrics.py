"""The measures: known answers."""

import numpy as np
import pytest

from worldsim_training import metrics, mutants


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


def test_motion_of_a_picture_that_brightens_by_two_levels_is_two_or_grain():
    frames = np.stack([np.full((5, 7, 3), 2 * t, np.uint8) for t in range(4)])
    assert metrics.motion(frames, grain=0) == pytest.approx([2.0] * 3)
    assert metrics.motion(frames) == pytest.approx([0.0] * 3)
    assert metrics.changed_pixels(frames).tolist() == [0, 0, 0]
    assert metrics.changed_pixels(frames, levels=1).tolist() == [35, 35, 35]


def test_motion_under_a_grain_is_that_of_what_moves():
    frames = np.full((6, 8, 8, 3), 100, np.uint8)
    for t in range(6):
        frames[t, :, t] = 180  # a bar of 8 pixels: it comes to as many as it leaves
    grain = np.random.default_rng(0).integers(0, 3, frames.shape, dtype=np.uint8)
    assert metrics.motion(frames) == pytest.approx([80 * 16 / 64] * 5)
    assert metrics.motion(frames + grain) == pytest.approx([20.0] * 5, rel=0.02)


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


def test_fading_halves_the_vividness_that_something_gaudy_leaves_alone():
    picture = np.full((1, 10, 12, 3), 90, np.uint8)
    picture[:, :, :6] = (120, 80, 60)  # half of it is coloured
    assert metrics.coloured_share(picture) == pytest.approx([0.5])
    gaudy = picture.copy()
    gaudy[:, 2:4, 2:10] = (255, 160, 0)
    faded = mutants.faded(picture, 0)
    vivid = [metrics.vividness(frames, 0.25).tolist() for frames in (picture, gaudy, faded)]
    assert vivid == [[60], [60], [30]]
    assert metrics.saturation(gaudy) > 1.5 * metrics.saturation(picture)
    assert metrics.vividness(picture, 0.0).tolist() == [60] and metrics.vividness(picture, 1.0).tolist() == [0]


def test_a_sprite_jumps_on_and_a_trail_changes_little_by_little():
    sharp = np.zeros((60, 5, 80, 3), np.uint8)
    for t in range(60):
        sharp[t, 2, t] = 210
    trail = mutants.smeared(sharp, 0, frames_back=6)[10:]
    one = metrics.abruptness(sharp, steps=20, length=30)
    assert one.shape == (60 - 20 - 30 + 1,) and one == pytest.approx(np.ones(11))
    assert metrics.abruptness(trail, steps=20, length=30) == pytest.approx(np.full(1, 1 / 7), rel=1e-2)
    still = np.repeat(sharp[:1], 40, axis=0)
    assert metrics.abruptness(still, steps=20, length=64) == pytest.approx([1.0])


def test_what_tells_scenes_apart_does_not_move():
    green, red = (np.zeros((4, 5, 7, 3), np.uint8) for _ in range(2))
    green[..., 1], red[..., 0] = 200, 200
    green[::2, 1, 2] = 90
    assert metrics.moving_pixels(np.concatenate([green, red])).all()
    moving = metrics.moving_pixels(green, red)
    assert moving[1, 2] and moving.sum() == 1


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
    known = metrics.squared_lengths(frames[1:])
    assert known == pytest.approx([float(np.square(each.astype(float)).sum()) for each in frames[1:]], rel=1e-5)
    assert metrics.nearest_psnr(frames[:1], frames[1:], known)[0] == far


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
