"""The measures of distributions: known answers."""

import numpy as np
import pytest

from worldsim_training import metrics


def rows(count, seed=0, features=5):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, features)) @ rng.normal(size=(features, features)) + 3.0


def test_equal_rows_have_no_distance_and_a_shift_has_its_square():
    one = rows(500)
    assert metrics.frechet_distance(one, one) == pytest.approx(0.0, abs=1e-9)
    assert metrics.frechet_distance(one, one + [2.0, 0, 0, 0, 0]) == pytest.approx(4.0)


def test_two_normals_on_a_line_are_apart_by_means_and_deviations():
    one = np.array([[0.0], [2.0]])  # mean 1, deviation 1
    other = np.array([[1.0], [7.0]])  # mean 4, deviation 3
    assert metrics.frechet_distance(one, other) == pytest.approx(3.0**2 + 2.0**2)


def test_the_distance_is_that_of_the_matrix_square_root():
    one, other = rows(400), rows(300, seed=1)
    product = np.cov(one, rowvar=False, ddof=0) @ np.cov(other, rowvar=False, ddof=0)
    trace = np.sqrt(np.linalg.eigvals(product).astype(complex)).sum().real
    spreads = sum(np.trace(np.cov(each, rowvar=False, ddof=0)) for each in (one, other))
    expected = np.square(one.mean(axis=0) - other.mean(axis=0)).sum() + spreads - 2 * trace
    assert metrics.frechet_distance(one, other) == pytest.approx(expected)
    assert metrics.frechet_distance(other, one) == pytest.approx(expected)


def test_one_row_has_no_distance():
    assert np.isnan(metrics.frechet_distance(rows(1), rows(9)))


def test_whitened_rows_are_uncorrelated_with_unit_variance():
    features = rows(600) * [1, 10, 100, 1, 1]
    white = metrics.whitening(features)(features)
    assert white.mean(axis=0) == pytest.approx(np.zeros(5), abs=1e-9)
    assert np.cov(white, rowvar=False) == pytest.approx(np.eye(5), abs=1e-6)


def test_whitening_keeps_the_widest_directions_and_none_that_does_not_vary():
    rng = np.random.default_rng(0)
    wide, thin, still = rng.normal(0, 9, 200), rng.normal(0, 1, 200), np.full(200, 4.0)
    features = np.stack([thin, still, wide], axis=1)
    assert metrics.whitening(features)(features).shape == (200, 2)
    [component] = metrics.whitening(features, components=1)(features).T
    assert abs(np.corrcoef(component, wide)[0, 1]) > 0.99
    with pytest.raises(ValueError, match="3 features of 200 rows do not vary"):
        metrics.whitening(np.ones((200, 3)))


def test_the_same_habits_have_no_distance_and_opposite_ones_have_one():
    cells, moves = np.repeat([0, 1], 50), np.repeat([-1, 1], 50)
    assert metrics.histogram_distance(moves, cells, moves[::-1], cells[::-1]) == 0.0
    assert metrics.histogram_distance(moves, cells, -moves, cells) == 1.0


def test_habits_are_compared_where_both_were_seen_enough_weighted_by_the_first():
    cells, moves = np.array([0] * 30 + [1] * 10), np.array([1] * 30 + [0] * 10)
    other = np.array([1] * 15 + [0] * 15 + [0] * 10)
    assert metrics.histogram_distance(moves, cells, other, cells, least=20) == pytest.approx(0.5)
    assert metrics.histogram_distance(moves, cells, other, cells, least=10) == pytest.approx(0.5 * 30 / 40)
    assert np.isnan(metrics.histogram_distance(moves, cells, other, cells, least=31))
