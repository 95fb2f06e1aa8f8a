"""How often 95 % intervals of few runs hold the value that they are of, by simulation, for the docs.

Scores of runs are drawn from distributions, and each kind of interval of their IQM is worked out; an interval that
covers holds the IQM of the whole distribution. ``python -m benchmarks.coverage`` puts the table into docs/report.md.
The means over the distributions are what ``varshare_pl.results.statistics.COVERAGE`` tells beside an interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from benchmarks import sections
from benchmarks.machine import ROOT
from varshare_pl.results.statistics import CONFIDENCE, interval, iqm, t_interval, t_quantile

Array = NDArray[np.float64]
PAGE, MARKER = ROOT / "docs" / "report.md", "coverage"
RUNS = (2, 3, 4, 5, 6, 7, 8, 9, 10)
REPEATS, AT_ONCE, RESAMPLES = 400, 200, 300
DISTRIBUTIONS: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "normal": lambda rng, count: rng.normal(0.7, 0.1, count),
    "skewed (log-normal)": lambda rng, count: rng.lognormal(0.0, 0.8, count),
    "success rate (beta)": lambda rng, count: rng.beta(4.0, 1.0, count),
    "a fifth of runs fails": lambda rng, count: rng.normal(np.where(rng.random(count) < 0.2, 0.2, 0.9), 0.05),
}
TAILS = np.array([0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])


def percentile(scores: Array, draws: Array) -> Array:
    """Percentiles of the bootstrap."""
    return interval(iqm(draws), iqm(scores))


def corrected(scores: Array, draws: Array) -> Array:
    """BCa: percentiles corrected for bias and skewness (Efron 1987)."""
    centre, found = iqm(scores), np.sort(iqm(draws), axis=0)
    share = ((found < centre).sum(axis=0) + 0.5 * (found == centre).sum(axis=0)) / len(found)
    bias = norm.ppf(np.clip(share, 1 / len(found), 1 - 1 / len(found)))
    away = _without_one(scores)
    away = away.mean(axis=0) - away
    spread = (away**2).sum(axis=0) ** 1.5
    skewness = np.divide((away**3).sum(axis=0), 6 * spread, out=np.zeros_like(centre), where=spread > 0)
    shifted = bias + norm.ppf(TAILS)[:, np.newaxis]
    shares = norm.cdf(bias + shifted / (1 - skewness * shifted))
    return np.take_along_axis(found, np.rint(shares * (len(found) - 1)).astype(np.intp), axis=0)


def studentised(scores: Array, draws: Array) -> Array:
    """Bootstrap-t: percentiles of the distance in standard errors, those of each sample's jackknife."""
    centre, error = iqm(scores), _error(scores)
    own = _error(draws)
    distance = np.divide(iqm(draws) - centre, own, out=np.full_like(own, np.nan), where=own > 0)
    low, high = np.nanquantile(distance, TAILS, axis=0)
    return np.stack([centre - high * error, centre - low * error])


def jackknife(scores: Array, draws: Array) -> Array:  # noqa: ARG001  # one signature for all
    """Student's t with the jackknife's standard error."""
    centre, half = iqm(scores), t_quantile(scores.shape[-2] - 1) * _error(scores)
    return np.stack([centre - half, centre + half])


def student(scores: Array, draws: Array) -> Array:
    """Student's t with the bootstrap's standard error."""
    return t_interval(iqm(scores), [iqm(draws)], [scores.shape[-2]])


KINDS: Mapping[str, Callable[[Array, Array], Array]] = {
    "percentile bootstrap (`bootstrap`)": percentile,
    "BCa bootstrap": corrected,
    "studentised bootstrap": studentised,
    "Student's t, standard error of the jackknife": jackknife,
    "Student's t, standard error of the bootstrap (`t`)": student,
}


def coverage(name: str, runs: int, kinds: Mapping[str, Callable[[Array, Array], Array]], repeats: int) -> list[float]:
    """The share of intervals of each kind that hold the IQM of a distribution."""
    draw, rng = DISTRIBUTIONS[name], np.random.default_rng(runs)
    true = float(iqm(draw(np.random.default_rng(0), 4_000_000)[:, np.newaxis]))
    held = np.zeros(len(kinds))
    for _ in range(repeats // AT_ONCE):
        scores = draw(rng, AT_ONCE * runs).reshape(AT_ONCE, runs)
        picks = rng.integers(0, runs, (RESAMPLES, AT_ONCE, runs))
        draws = np.take_along_axis(scores[np.newaxis], picks, axis=2)[..., np.newaxis]
        for k, kind in enumerate(kinds.values()):
            low, high = kind(scores[..., np.newaxis], draws)
            held[k] += ((low <= true) & (true <= high)).sum()
    return (held / (repeats // AT_ONCE * AT_ONCE)).tolist()


def table() -> str:
    """A row for each kind and distribution, a column for each number of runs."""
    found = {(name, runs): coverage(name, runs, KINDS, REPEATS) for name in DISTRIBUTIONS for runs in RUNS}
    lines = [f"| interval | scores | {' | '.join(map(str, RUNS))} |", f"|---|---|{'---:|' * len(RUNS)}"]
    for k, kind in enumerate(KINDS):
        lines += [_row(kind, name, [found[name, runs][k] for runs in RUNS]) for name in DISTRIBUTIONS]
        lines.append(_row(kind, "mean", [fmean(found[name, runs][k] for name in DISTRIBUTIONS) for runs in RUNS]))
    return "\n".join(lines)


def _row(kind: str, name: str, shares: list[float]) -> str:
    return f"| {kind} | {name} | {' | '.join(f'{100 * share:.0f}' for share in shares)} |"


def _without_one(scores: Array) -> Array:
    """The IQM without each run, (num_runs, …)."""
    return np.stack([iqm(np.delete(scores, i, axis=-2)) for i in range(scores.shape[-2])])


def _error(scores: Array) -> Array:
    runs = scores.shape[-2]
    return np.asarray((runs - 1) / np.sqrt(runs) * _without_one(scores).std(axis=0, ddof=1))


if __name__ == "__main__":
    sections.write(PAGE, MARKER, table())
