"""The statistics over runs: by hand, and against SciPy and rliable."""

import math

import numpy as np
import pytest
import rliable.metrics
import scipy.integrate
import scipy.stats

from varshare_pl.results.statistics import (
    area_under_curve,
    average,
    bootstrap,
    carry_forward,
    generator,
    interval,
    iqm,
    iqm_interval,
    mean_and_std,
    median_steps,
    performance_profile,
    probability_of_improvement,
    same_runs,
    t_interval,
    worst_task,
)

NAN, INF = np.nan, np.inf


@pytest.fixture
def scores():
    """(num_runs, num_tasks): tasks of different levels and spreads."""
    return np.random.default_rng(5).normal([0.3, 0.5, 0.9], [0.3, 0.1, 0.05], (10, 3))


@pytest.mark.parametrize(("runs", "tasks"), [(1, 1), (2, 1), (3, 2), (10, 5), (7, 3)])
def test_the_interquartile_mean_is_that_of_scipy_and_rliable(runs, tasks):
    scores = np.random.default_rng(runs).exponential(size=(runs, tasks))
    assert iqm(scores) == pytest.approx(scipy.stats.trim_mean(scores, 0.25, axis=None), rel=1e-12)
    assert iqm(scores) == pytest.approx(rliable.metrics.aggregate_iqm(scores), rel=1e-12)


def test_the_interquartile_mean_of_the_runs_that_have_scores():
    table = np.array([[1.0, 2.0], [NAN, NAN], [3.0, 100.0]])
    assert iqm(table) == 2.5  # 1 and 100 are left out
    assert math.isnan(iqm(np.full((3, 2), NAN)))
    np.testing.assert_array_equal(iqm(np.stack([table, 2 * table])), [2.5, 5.0])


def test_the_stratified_bootstrap_is_that_of_scipy(scores):
    # SciPy resamples each of several samples independently, as the strata are; the draws differ
    low, high = interval(iqm(bootstrap(scores, np.random.default_rng(1), strata=[0, 1, 2], resamples=20_000)))
    theirs = scipy.stats.bootstrap(
        tuple(scores.T),
        lambda *tasks, axis: scipy.stats.trim_mean(np.concatenate(tasks, axis=-1), 0.25, axis=axis),
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.03 * width)


def test_the_bootstrap_of_whole_runs_is_that_of_scipy(scores):
    low, high = interval(bootstrap(scores, np.random.default_rng(1), resamples=20_000).mean(axis=(-2, -1)))
    theirs = scipy.stats.bootstrap(
        (scores.mean(axis=1),), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.03 * (theirs.high - theirs.low))


def test_runs_are_resampled_whole_and_strata_apart():
    table = np.arange(5.0)[:, np.newaxis] + np.array([0.0, 10.0, 20.0])
    table[4] = NAN
    draws = bootstrap(table, generator("a"), strata=[0, 0, 1], resamples=200)
    assert draws.shape == (200, 5, 3)
    assert np.isnan(draws[:, 4]).all()
    assert (draws[:, :4, 1] - draws[:, :4, 0] == 10).all()
    assert (draws[:, :4, 2] - draws[:, :4, 0] != 20).any()
    assert set(draws[:, :4, 2].ravel()) == {20.0, 21.0, 22.0, 23.0}
    curves = bootstrap(np.stack([table, table + 100]), generator("a"), resamples=3)  # points of a curve go together
    np.testing.assert_array_equal(curves[:, 1], curves[:, 0] + 100)


def test_a_number_of_that_name_is_always_the_same(scores):
    one, same, other = (iqm_interval(scores, generator("suite", name)) for name in ("a", "a", "b"))
    np.testing.assert_array_equal(one, same)
    assert one[0] == other[0]
    assert (one[1:] != other[1:]).all()


def test_a_single_run_has_no_interval(scores):
    centre, low, high = iqm_interval(scores[:1], generator("a"))
    assert math.isfinite(centre)
    assert math.isnan(low)
    assert math.isnan(high)


def test_the_probability_of_improvement_is_that_of_rliable_and_of_mann_and_whitney(scores):
    ours = np.round(scores, 1)  # with ties
    theirs = np.round(np.random.default_rng(6).normal(0.5, 0.2, (7, 3)), 1)
    found = probability_of_improvement(ours, theirs)
    assert found == pytest.approx(rliable.metrics.probability_of_improvement(ours, theirs), rel=1e-12)
    wins = [scipy.stats.mannwhitneyu(ours[:, m], theirs[:, m]).statistic / 70 for m in range(3)]
    assert found == pytest.approx(np.mean(wins), rel=1e-12)
    assert probability_of_improvement(theirs, ours) == pytest.approx(1 - found)
    missing = np.concatenate([ours, np.full((2, 3), NAN)])
    assert probability_of_improvement(missing, theirs) == pytest.approx(found)


def test_the_performance_profile_counts_scores_above(scores):
    thresholds = np.array([-1.0, 0.5, 0.7, 2.0])
    table = np.array([[0.5, 0.6], [0.9, NAN]])
    np.testing.assert_allclose(performance_profile(table, thresholds), [1, 2 / 3, 1 / 3, 0])
    by_count = [(scores > threshold).mean() for threshold in thresholds]
    np.testing.assert_allclose(performance_profile(np.stack([scores, scores + 9]), thresholds)[0], by_count)


def test_the_area_is_that_of_scipy_over_the_span():
    steps, values = np.array([0.0, 1.0, 4.0, 6.0]), np.array([1.0, 3.0, NAN, 5.0])
    assert area_under_curve(steps, values) == (2 * 1 + 4 * 5) / 6
    seen = np.isfinite(values)
    assert area_under_curve(steps, values) == scipy.integrate.trapezoid(values[seen], steps[seen]) / 6
    assert math.isnan(area_under_curve(steps[:1], values[:1]))


def test_the_worst_task_is_that_of_each_run():
    np.testing.assert_array_equal(worst_task(np.array([[1.0, 2.0], [5.0, 0.0]])), [1, 0])


def test_an_interval_may_end_in_a_run_that_did_not_solve():
    draws = np.array([1.0] * 10 + [2.0] * 80 + [INF] * 10)
    assert interval(draws).tolist() == [1.0, INF]


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
    assert list(same_runs(values)) == [slice(1, 3), slice(3, 4), slice(4, 5)]
    assert list(same_runs(np.ones((3, 4)))) == [slice(0, 4)]
    assert list(same_runs(np.zeros((3, 0)))) == []


@pytest.mark.parametrize(
    ("steps", "median"),
    [([300, 100], 200), ([300, INF, 100], 300), ([100, INF], INF), ([INF, 100, INF], INF), ([INF, INF], INF)],
)
def test_an_unsolved_run_is_slower_than_any_other(steps, median):
    assert median_steps(np.array(steps, dtype=float)) == median


def test_no_runs_have_no_median():
    assert math.isnan(median_steps(np.zeros(0)))


@pytest.mark.parametrize("value", [0.1, 1_000_003.0, 1 / 3, -0.7])
@pytest.mark.parametrize("count", [2, 3, 7, 65_536, 500_000])
def test_the_mean_of_equal_values_is_their_value(value, count):
    values = np.full(count, value)
    assert average(values) == value
    assert average(values.astype(np.float32)) == np.float32(value)
    assert average(np.stack([values, -values]), axis=1).tolist() == [value, -value]
    assert iqm(values[:, np.newaxis]) == value
    mean, std, _ = mean_and_std(values[:, np.newaxis])
    assert (mean[0], std[0]) == (value, 0)
    assert area_under_curve(np.arange(count) / 7, values) == value


def test_the_mean_of_nothing_and_of_gaps():
    assert math.isnan(average(np.zeros(0)))
    assert average(np.zeros((0, 2)), axis=1).shape == (0,)
    assert np.isnan(average(np.array([[1.0, NAN], [1.0, 2.0]]), axis=1)).tolist() == [True, False]


def test_the_area_goes_on_at_the_last_value_to_the_end():
    steps, values = np.array([1.0, 2.0, 3.0]), np.array([0.0, 4.0, NAN])
    assert area_under_curve(steps, values, end=5.0) == (2 + 3 * 4) / 4
    assert area_under_curve(steps[:1], values[:1], end=5.0) == 0.0
    assert area_under_curve(steps, values, end=1.5) == 2.0  # nothing that was measured is left out
    assert math.isnan(area_under_curve(steps, np.full(3, NAN), end=5.0))


def tables():
    """Scores of all sorts: few runs, equal ones, large and small ones, gaps, and what is not finite."""
    rng = np.random.default_rng(11)
    for trial in range(120):
        runs, tasks = int(rng.integers(1, 7)), int(rng.integers(1, 5))
        level = (0.0, 0.1, 1_000_003.0, -3e8)[trial % 4]
        table = level + (0.0, 1e-9, 1.0, 50.0)[trial // 4 % 4] * rng.standard_t(1, (runs, tasks))
        if trial % 3 == 1:
            table[rng.random(table.shape) < 0.4] = (NAN, INF, -INF)[trial % 9 // 3]
        yield table


def test_an_interval_holds_its_value():
    for table in tables():
        centre, low, high = iqm_interval(table, generator("a"), resamples=200)
        assert math.isnan(low) or low <= centre <= high
        assert math.isnan(low) == math.isnan(high)
        known = table[np.isfinite(table)]
        assert math.isnan(centre) if not len(known) else known.min() <= centre <= known.max()
        if len(table) == 1:
            assert math.isnan(low)
        mean, std, runs = mean_and_std(table)
        assert (std[runs > 1] >= 0).all()
        for m in np.flatnonzero(runs):
            column = table[np.isfinite(table[:, m]), m]
            assert column.min() <= mean[m] <= column.max()


def test_runs_with_gaps_are_drawn_too():
    # each run lacks another task: to draw only whole runs would draw the last one again and again
    table = np.array([[1.0, NAN], [NAN, 2.0], [30.0, NAN], [NAN, 40.0], [5.0, 6.0]])
    centre, low, high = iqm_interval(table, generator("a"))
    assert low < centre < high
    assert iqm(bootstrap(table, generator("a"))).max() > 20


def test_the_t_interval_is_that_of_scipy_where_the_iqm_is_a_mean():
    ours, theirs = np.array([[0.3], [0.9], [0.4]]), np.array([[2.0], [2.5]])  # of two or three none is left out
    low, high = iqm_interval(ours, generator("a"), "t", 20_000)[1:]
    right = scipy.stats.ttest_1samp(ours[:, 0], 0.0).confidence_interval()
    assert (low, high) == pytest.approx((right.low, right.high), abs=0.03 * (right.high - right.low))
    draws = [iqm(bootstrap(one, generator("a"), resamples=20_000)) for one in (ours, theirs)]
    low, high = t_interval(np.array(1.0), draws, [3, 2])
    welch = scipy.stats.ttest_ind(ours[:, 0], theirs[:, 0], equal_var=False).confidence_interval()
    assert (low + high) / 2 == pytest.approx(1.0)
    assert high - low == pytest.approx((welch.high - welch.low) / 2, rel=0.03)  # of a mean, not of a difference


def test_t_intervals_of_curves_and_of_equal_runs():
    table = np.random.default_rng(2).normal(size=(4, 5, 2))
    found = iqm_interval(table, generator("a"), "t")
    assert found.shape == (3, 4)
    assert (found[1] < found[0]).all()
    alike = iqm_interval(np.full((3, 2), 0.5), generator("a"), "t")
    np.testing.assert_allclose(alike, 0.5)


def test_what_is_not_finite_has_no_part():
    table = np.array([[1.0, -INF], [2.0, INF], [3.0, 4.0]])
    kept = np.array([[1.0, NAN], [2.0, NAN], [3.0, 4.0]])
    assert iqm(table) == iqm(kept) == 2.5
    thresholds = np.array([0.0, 1.5, 3.5])
    np.testing.assert_array_equal(performance_profile(table, thresholds), performance_profile(kept, thresholds))
    np.testing.assert_array_equal(performance_profile(table, thresholds), [1, 0.75, 0.25])


def test_an_interval_reaches_to_its_value_and_skips_estimates_that_are_none():
    draws = np.array([[1.0, 1.0], [2.0, NAN], [3.0, NAN]])
    assert interval(draws, np.array([9.0, 0.5])).tolist() == [[1.0, 0.5], [9.0, 1.0]]
    assert np.isnan(interval(np.full((3, 1), NAN))).all()
    spread = np.random.default_rng(1).normal(size=(1000, 4))
    np.testing.assert_array_equal(interval(spread), np.percentile(spread, [2.5, 97.5], axis=0, method="nearest"))


def test_statistics_do_not_hang_on_the_order_and_follow_a_shift():
    for table in tables():
        for shifted, by in ((table[::-1], 0.0), (table + 64.0, 64.0)):
            scale = 1e-9 * (1 + np.abs(table[np.isfinite(table)]).max(initial=0))
            for statistic in (iqm, lambda t: mean_and_std(t)[0]):
                np.testing.assert_allclose(statistic(shifted), statistic(table) + by, rtol=0, atol=scale)
        if (np.isfinite(table).any(axis=0)).all():
            assert float(probability_of_improvement(table, table)) == pytest.approx(0.5)
