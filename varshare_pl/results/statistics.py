"""Statistics over runs: pure functions on scores (num_runs, num_tasks), NaN where a run has no score.

A run trains all tasks of its suite, so the scores in a row hang together: what is resampled is whole runs. Where
tasks or suites were trained in runs of their own, ``strata`` says which columns are of the same runs.
Interquartile mean, stratified bootstrap, probability of improvement and performance profiles are those of Agarwal et
al. 2021, "Deep reinforcement learning at the edge of the statistical precipice".
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RESAMPLES = 2000
CONFIDENCE = 0.95
Interval = Literal["bootstrap", "t"]
INTERVALS: dict[Interval, str] = {"bootstrap": "95 % bootstrap interval", "t": "95 % t interval"}
COVERAGE: dict[Interval, dict[int, float]] = {  # of IQMs of few runs, by their number: python -m benchmarks.coverage
    "bootstrap": {2: 0.52, 3: 0.74, 4: 0.86, 5: 0.89, 6: 0.91, 7: 0.91, 8: 0.93, 9: 0.93},
    "t": {2: 0.94, 3: 0.94, 4: 0.97, 5: 0.97, 6: 0.96, 7: 0.96, 8: 0.96, 9: 0.96},
}


def generator(*names: object) -> np.random.Generator:
    """A generator for the numbers of that name: what else is reported does not change them."""
    return np.random.default_rng(zlib.crc32("\0".join(map(str, names)).encode()))


def average(values: NDArray[np.floating[Any]], axis: int | None = None) -> Array:
    """Mean, summed in float64; rounding never takes it beyond the values, so that of equal ones is their value.

    NaN where there is one among the values, and of none.
    """
    if not values.size:
        return np.full(() if axis is None else np.delete(values.shape, axis), np.nan)
    mean = values.mean(axis=axis, dtype=np.float64)
    return np.asarray(np.clip(mean, values.min(axis=axis), values.max(axis=axis)), dtype=np.float64)


def mean_and_std(values: Array) -> tuple[Array, Array, NDArray[np.int64]]:
    """Mean, standard deviation and number of runs of each column of (num_runs, K), over the runs that have a value.

    The standard deviation is that of a sample, with n - 1; NaN where fewer than two runs have a value.
    """
    seen = np.isfinite(values)
    runs = seen.sum(axis=0)
    mean = np.where(runs > 0, np.where(seen, values, 0.0).sum(axis=0) / np.maximum(runs, 1), np.nan)
    low = np.where(seen, values, np.inf).min(axis=0, initial=np.inf)
    high = np.where(seen, values, -np.inf).max(axis=0, initial=-np.inf)
    mean = np.where(runs > 0, np.clip(mean, low, high), np.nan)  # as ``average``
    squares = np.where(seen, values - mean, 0.0) ** 2
    std = np.where(runs > 1, np.sqrt(squares.sum(axis=0) / np.maximum(runs - 1, 1)), np.nan)
    return mean, std, runs


def iqm(scores: Array) -> Array:
    """Interquartile mean of (…, num_runs, num_tasks) over runs and tasks together: (…,), NaN without a score.

    Of k scores the floor(k / 4) lowest and highest are left out.
    """
    ordered, count = _ordered(scores)
    middle = np.full(ordered.shape[:-1], np.nan)
    for k in np.unique(count[count > 0]):
        kept = ordered[count == k][:, k // 4 : k - k // 4]
        middle[count == k] = np.clip(kept.mean(axis=-1), kept[:, 0], kept[:, -1])  # as ``average``
    return middle


def _ordered(scores: Array) -> tuple[Array, NDArray[np.int64]]:
    """All scores of (…, num_runs, num_tasks) in ascending order (…, K), what is not finite last, and how many are."""
    flat = scores.reshape(*scores.shape[:-2], -1)
    seen = np.isfinite(flat)
    return np.sort(np.where(seen, flat, np.nan), axis=-1), seen.sum(axis=-1)


def bootstrap(
    scores: Array, rng: np.random.Generator, strata: Sequence[int] | None = None, resamples: int = RESAMPLES
) -> Array:
    """Resampled scores (resamples, …, num_runs, num_tasks) of (…, num_runs, num_tasks).

    The runs of each stratum are drawn with replacement from those of its runs that have a score, as many as there
    are, with what they lack; other rows are NaN. Leading axes, such as points of a curve, are resampled alike.

    Args:
        scores: NaN where a run has no score.
        rng: Where the draws come from.
        strata: A number for each task; tasks of the same number are drawn together. All are by default. With a
            number of its own for each task this is the stratified bootstrap of Agarwal et al.
        resamples: How many.
    """
    groups = np.zeros(scores.shape[-1], np.int64) if strata is None else np.asarray(strata)
    out = np.full((resamples, *scores.shape), np.nan)
    for group in np.unique(groups):
        columns = np.flatnonzero(groups == group)
        own = scores[..., columns]
        known = np.flatnonzero(np.isfinite(own).any(axis=-1).reshape(-1, own.shape[-2]).any(axis=0))
        if len(known):
            rows = known[rng.integers(0, len(known), (resamples, len(known)))]
            out[..., : len(known), columns] = np.moveaxis(own[..., rows, :], -3, 0)
    return out


def interval(estimates: Array, value: Array | float = np.nan) -> Array:
    """Percentile interval of bootstrapped estimates (resamples, …) of a value (…): low and high (2, …).

    Both ends are among the estimates, so an infinite one (a run that did not solve) is allowed; an estimate that is
    NaN does not count. Percentiles of few runs may pass by the value itself: the interval then reaches to it.
    """
    ordered = np.sort(estimates, axis=0)  # NaN last
    last = np.maximum((~np.isnan(ordered)).sum(axis=0) - 1, 0)[np.newaxis]
    tail = (1 - CONFIDENCE) / 2
    low, high = (
        np.take_along_axis(ordered, np.rint(share * last).astype(np.intp), axis=0)[0] for share in (tail, 1 - tail)
    )
    return np.stack([np.fmin(low, value), np.fmax(high, value)])


def iqm_interval(
    scores: Array, rng: np.random.Generator, kind: Interval = "bootstrap", resamples: int = RESAMPLES
) -> Array:
    """IQM of (…, num_runs, num_tasks) with its interval: (3, …); no interval where a task has one run."""
    centre = iqm(scores)
    low, high = np.full_like(centre, np.nan), np.full_like(centre, np.nan)
    if np.isfinite(scores).sum(axis=-2).min(initial=2) > 1:
        draws = iqm(bootstrap(scores, rng, resamples=resamples))
        runs = int(np.isfinite(scores).any(axis=-1).reshape(-1, scores.shape[-2]).any(axis=0).sum())
        low, high = interval(draws, centre) if kind == "bootstrap" else t_interval(centre, [draws], [runs])
    return np.stack([centre, low, high])


def t_interval(centre: Array, draws: Sequence[Array], runs: Sequence[int]) -> Array:
    """Student's t interval of the mean of estimates of independent samples: low and high (2, …).

    Degrees of freedom are those of Welch and Satterthwaite, of one sample its runs less 1.

    Args:
        centre: (…) the mean of the estimates.
        draws: Of each sample the bootstrapped estimates (resamples, …).
        runs: In each sample, two or more.
    """
    # a bootstrap of n runs has n − 1 / n of the variance
    variances = np.stack([own.var(axis=0) * n / (n - 1) for own, n in zip(draws, runs, strict=True)]) / len(runs) ** 2
    total, freedom = variances.sum(axis=0), np.array(runs, np.float64) - 1
    shares = (np.moveaxis(variances**2, 0, -1) / freedom).sum(axis=-1)
    degrees = np.divide(total**2, shares, out=np.full_like(total, freedom.min()), where=shares > 0)
    half = np.vectorize(t_quantile, otypes=[float])(np.round(degrees, 6)) * np.sqrt(total)
    return np.stack([centre - half, centre + half])


@cache
def t_quantile(degrees: float) -> float:
    """The number below which the absolute value of Student's t lies with the probability of an interval."""
    angle = np.linspace(0.0, np.pi / 2, 20_001)  # t is √degrees · tan(angle), whose density is cos(angle)^(degrees − 1)
    density = np.cos(angle) ** (degrees - 1)
    below = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return float(np.sqrt(degrees) * np.tan(np.interp(CONFIDENCE, below / below[-1], angle)))


def worst_task(scores: Array) -> Array:
    """The lowest score of each run (…, num_runs, num_tasks): (…, num_runs)."""
    return np.asarray(scores.min(axis=-1))


def probability_of_improvement(ours: Array, theirs: Array) -> Array:
    """P(a run of ours scores higher than one of theirs), ties half, of each task, then the mean over tasks.

    Args:
        ours: (…, num_runs, num_tasks).
        theirs: (…, other_runs, num_tasks).
    """
    mine, other = ours[..., :, np.newaxis, :], theirs[..., np.newaxis, :, :]
    pairs = np.where(np.isfinite(mine) & np.isfinite(other), (mine > other) + 0.5 * (mine == other), np.nan)
    known = np.isfinite(pairs)
    wins = np.where(known, pairs, 0.0).sum(axis=(-3, -2)) / np.maximum(known.sum(axis=(-3, -2)), 1)
    return average(np.where(known.any(axis=(-3, -2)), wins, np.nan), axis=-1)


def performance_profile(scores: Array, thresholds: Array) -> Array:
    """Share of the scores (…, num_runs, num_tasks) above each threshold (K,): (…, K)."""
    flat, count = _ordered(scores.reshape(-1, *scores.shape[-2:]))
    below = np.stack([np.searchsorted(row[:n], thresholds, side="right") for row, n in zip(flat, count, strict=True)])
    share = np.where(count[:, np.newaxis] > 0, 1 - below / np.maximum(count, 1)[:, np.newaxis], np.nan)
    return share.reshape(*scores.shape[:-2], len(thresholds))


def area_under_curve(steps: Array, values: Array, end: float = 0.0) -> float:
    """Mean height of the curve through (R,) points from the first to the end, by the trapezoidal rule.

    Beyond its last point, if the end is there, the curve stays where it is. NaN without a stretch to be over.
    """
    seen = np.isfinite(values)
    steps, values = steps[seen], values[seen]
    if not len(steps) or max(end, steps[-1]) <= steps[0]:
        return float("nan")
    steps, values = np.append(steps, max(end, steps[-1])), np.append(values, values[-1])
    height = np.trapezoid(values, steps) / (steps[-1] - steps[0])
    return float(np.clip(height, values.min(), values.max()))  # as in ``average``: that of a level curve is its level


def median_steps(steps: Array) -> Array:
    """The median of the steps to solve (…, num_runs), where inf stands for a run that did not solve: (…,).

    A run that did not solve so counts as slower than any that did; inf if that leaves the median undefined, NaN
    without runs.
    """
    return np.asarray(np.median(steps, axis=-1) if steps.shape[-1] else np.full(steps.shape[:-1], np.nan))


def carry_forward(steps: Array, values: Array, end: float, grid: Array) -> Array:
    """A run's values (R,), taken at its env steps (R,), on a grid (P,): at each point its last finite value so far.

    NaN before the first value, and beyond the end, the last env step that the run has come to: nothing is made up
    for what a run has not yet trained.
    """
    seen = np.isfinite(values)
    latest = np.searchsorted(steps[seen], grid, side="right") - 1  # -1, before the first: the NaN at the end
    return np.where(grid <= end, np.append(values[seen], np.nan)[latest], np.nan)


def same_runs(values: Array) -> Iterator[slice]:
    """The stretches of points of (num_runs, P) in each of which the same runs have values, at least one of them."""
    seen = np.isfinite(values)
    changes = np.flatnonzero((seen[:, 1:] != seen[:, :-1]).any(axis=0)) + 1
    for low, high in pairwise([0, *changes.tolist(), values.shape[1]]):
        if seen[:, low:high].any():
            yield slice(low, high)
