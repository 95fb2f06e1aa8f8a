"""How often intervals of few runs hold their value: what a report tells is what a small simulation finds."""

from statistics import fmean

import pytest
import scipy.stats

from benchmarks.coverage import DISTRIBUTIONS, coverage, percentile, student
from varshare_pl.results.statistics import COVERAGE, t_quantile


@pytest.mark.parametrize("runs", [2, 5])
def test_the_coverages_that_a_report_tells(runs):
    found = [coverage(name, runs, {"bootstrap": percentile, "t": student}, 400) for name in DISTRIBUTIONS]
    bootstrap, t = (fmean(shares) for shares in zip(*found, strict=True))
    assert bootstrap == pytest.approx(COVERAGE["bootstrap"][runs], abs=0.05)
    assert t == pytest.approx(COVERAGE["t"][runs], abs=0.04)
    assert t > 0.92 > bootstrap


def test_quantiles_of_students_t():
    for degrees in (1, 1.5, 2, 3.7, 9, 200):
        assert t_quantile(degrees) == pytest.approx(scipy.stats.t.ppf(0.975, degrees), rel=1e-5)
