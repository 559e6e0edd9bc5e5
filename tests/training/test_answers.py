"""The measures of answers, on arrays whose figures are known."""

import numpy as np
import pytest

from worldsim_training import metrics


def control(y, y_other, x, x_other):
    shape = (len(x), 2, 3, 3)
    x, x_other, y, y_other = (
        np.broadcast_to(np.array(each, np.uint8)[:, None, None, None], shape) for each in (x, x_other, y, y_other)
    )
    mask = np.zeros(shape[:3], bool)
    mask[:, 0, 0] = True
    sums = [metrics.mask_errors(other, x, mask) for other in (y, y_other, x_other)]
    return metrics.control_score(*sums, 3 * mask.sum(axis=(1, 2)))


def test_the_control_score_is_1_for_the_real_answers_and_0_where_the_action_is_ignored():
    assert control(y=[50, 90], y_other=[80, 10], x=[50, 90], x_other=[80, 10]) == 1.0
    assert control(y=[51, 91], y_other=[51, 91], x=[50, 90], x_other=[80, 10]) == 0.0


def test_the_control_score_has_no_meaning_where_the_answer_is_no_nearer_than_the_other_action():
    assert np.isnan(control(y=[80], y_other=[50], x=[50], x_other=[80]))
    assert np.isnan(metrics.control_score(np.zeros(2), np.zeros(2), np.zeros(2), np.zeros(2)))


def test_only_the_mask_counts():
    frames, reference = np.zeros((1, 4, 5, 3), np.uint8), np.full((1, 4, 5, 3), 9, np.uint8)
    mask = np.zeros((1, 4, 5), bool)
    mask[0, 1, :2] = True
    assert metrics.mask_errors(frames, reference, mask).tolist() == [2 * 3 * 81]


def test_macro_f1_weighs_classes_alike():
    assert metrics.macro_f1(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 1])) == 1.0
    assert metrics.macro_f1(np.array([0, 0, 0, 1]), np.zeros(4, int)) == pytest.approx((6 / 7 + 0) / 2)
    assert np.isnan(metrics.macro_f1(np.array([]), np.array([])))


def test_an_event_hits_one_event_of_its_value_at_most_a_step_away():
    truth = np.array([[0, 1, 0, 0, -1, 0]])
    assert metrics.event_hits(np.array([[0, 0, 1, 0, -1, 0]]), truth).tolist() == [[2, 2, 2]]
    assert metrics.event_hits(np.array([[0, 0, 0, 1, 1, 0]]), truth).tolist() == [[0, 2, 2]]
    assert metrics.event_hits(np.array([[1, 1, 1, 0, 0, 0]]), truth).tolist() == [[1, 3, 2]]
    assert metrics.event_f1(np.array([[1, 3, 2], [1, 1, 2]])) == 0.5
    assert np.isnan(metrics.event_f1(np.zeros((3, 3))))


def test_determination_is_1_for_the_truth_and_0_for_its_mean_and_skips_what_is_not_known():
    truth = np.array([1.0, 2.0, 3.0, np.nan])
    assert metrics.determination(truth, np.array([1, 2, 3, 99])) == 1.0
    assert metrics.determination(truth, np.full(4, 2.0)) == 0.0
    assert np.isnan(metrics.determination(np.array([2.0, 2.0]), np.array([2.0, 2.0])))


def test_agreement_is_a_correlation_over_what_both_know():
    assert metrics.agreement(np.array([1.0, 2, 3, np.nan]), np.array([2.0, 4, 6, 0])) == pytest.approx(1.0)
    assert np.isnan(metrics.agreement(np.ones(3), np.arange(3.0)))


def test_branches_part_at_the_first_step_over_the_limit():
    one, other = np.zeros((2, 4, 2)), np.zeros((2, 4, 2))
    other[0, 2:, 1] = 1.5
    other[1, :, 0] = np.nan
    distance = metrics.apart_by(one, other)
    assert metrics.onset_steps(distance, pixels=1.0).tolist() == [3, 5]
