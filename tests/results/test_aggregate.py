"""The statistics over runs, by hand."""

import math

import numpy as np
import pytest

from varshare_pl.results.aggregate import carry_forward, mean_and_std, median_steps, same_runs

NAN, INF = np.nan, np.inf


def test_the_last_value_is_carried_forward_but_not_beyond_the_end():
    steps, values = np.array([2.0, 4.0, 6.0, 8.0]), np.array([NAN, 10.0, NAN, 30.0])
    grid = np.arange(1.0, 12.0)
    carried = carry_forward(steps, values, end=9.0, grid=grid)
    np.testing.assert_array_equal(carried, [NAN, NAN, NAN, 10, 10, 10, 10, 30, 30, NAN, NAN])
    nothing = carry_forward(np.zeros(0), np.zeros(0), end=9.0, grid=grid)
    assert nothing.shape == grid.shape
    assert np.isnan(nothing).all()


def test_mean_and_sample_deviation_of_the_runs_that_have_a_value():
    values = np.array([[1.0, 10.0, NAN, 5.0], [3.0, NAN, NAN, 5.0], [8.0, NAN, NAN, INF]])
    mean, std, runs = mean_and_std(values)
    np.testing.assert_array_equal(mean, [4, 10, NAN, 5])
    np.testing.assert_array_equal(std, [math.sqrt((9 + 1 + 16) / 2), NAN, NAN, 0])
    assert runs.tolist() == [3, 1, 0, 2]
    large = 1e9 + np.array([[1.0], [2.0], [3.0]])  # no cancellation
    assert mean_and_std(large)[1].tolist() == [1.0]


def test_points_are_parted_where_the_runs_change_not_where_their_number_does():
    values = np.array([[NAN, 1, 1, NAN, NAN], [NAN, NAN, NAN, 1, 1], [NAN, 1, 1, 1, NAN]])
    assert same_runs(values) == [slice(1, 3), slice(3, 4), slice(4, 5)]
    assert same_runs(np.ones((3, 4))) == [slice(0, 4)]
    assert same_runs(np.zeros((3, 0))) == []


@pytest.mark.parametrize(
    ("steps", "median"),
    [([300, 100], 200), ([300, INF, 100], 300), ([100, INF], INF), ([INF, 100, INF], INF), ([INF, INF], INF)],
)
def test_an_unsolved_run_is_slower_than_any_other(steps, median):
    assert median_steps(np.array(steps, dtype=float)) == median


def test_no_runs_have_no_median():
    assert math.isnan(median_steps(np.zeros(0)))
