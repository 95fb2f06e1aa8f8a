"""The numbers that a report gives for each method on each suite, and for pairs of methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from varshare_pl.results.statistics import (
    COVERAGE,
    RESAMPLES,
    Interval,
    area_under_curve,
    average,
    bootstrap,
    generator,
    interval,
    iqm,
    iqm_interval,
    mean_and_std,
    median_steps,
    performance_profile,
    probability_of_improvement,
    t_interval,
    worst_task,
)
from varshare_pl.results.study import Study, Suite
from varshare_pl.results.variant import Variant

Array = NDArray[np.float64]
NAN = float("nan")
THRESHOLDS = np.linspace(0.0, 1.0, 101)  # of performance profiles, in scores


class Estimate(NamedTuple):
    """A number over runs."""

    mean: float  # over runs, of each one's mean over tasks
    std: float  # over runs, n - 1
    iqm: float  # over runs and tasks
    low: float  # 95 % interval of the IQM
    high: float
    runs: int
    coverage: float = NAN  # of such an interval, as simulated; NaN where the runs are not few


class Difference(NamedTuple):
    """A number about two methods with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Solving:
    """Env steps to solve."""

    steps: Array  # (num_runs,) of the finished runs, inf where one ended unsolved
    median: float  # inf if too few solved
    low: float
    high: float

    @property
    def solved(self) -> int:
        return int(np.isfinite(self.steps).sum())


@dataclass(frozen=True)
class MethodScores:
    """A method on a suite, over its finished runs."""

    variant: Variant
    returns: Array  # (num_runs, num_tasks) final returns of the finished runs
    scores: Array  # (num_runs, num_tasks) of what success is measured by; the returns for a suite without scores
    overall: Estimate  # of the scores
    overall_return: Estimate
    tasks: tuple[Estimate, ...]  # of the returns of each task
    measured: Array  # (num_runs, num_tasks) what success is measured by
    success: tuple[Estimate, ...]  # of each task, and of all; empty where success is measured by the return
    worst: Estimate  # of each run's lowest score
    area: Estimate  # of each run's area under the curve of its scores
    areas: Array  # (num_runs,)
    solving: Solving | None  # None where the suite cannot be solved, or no run is finished

    @property
    def runs(self) -> int:
        return len(self.returns)


def estimate(scores: Array, kind: Interval, *names: object) -> Estimate:
    """Of (num_runs, num_tasks) without gaps, with an interval of that kind; the names say which numbers to draw."""
    if not scores.size:
        return Estimate(NAN, NAN, NAN, NAN, NAN, 0)
    (mean,), (std,), (runs,) = mean_and_std(average(scores, axis=1)[:, np.newaxis])
    middle, low, high = map(float, iqm_interval(scores, generator(*names), kind))
    return Estimate(float(mean), float(std), middle, low, high, int(runs), COVERAGE[kind].get(int(runs), NAN))


def method_scores(suite: Suite, variant: Variant, kind: Interval) -> MethodScores:
    """All numbers of a method on a suite."""
    names = (kind, suite.label, variant.method)
    finals = variant.finals
    returns = np.array([run.final.returns for run in finals if run.final]).reshape(len(finals), len(suite.names))
    measured = np.array([run.final.measured for run in finals if run.final]).reshape(returns.shape)
    scores, success = suite.scores(measured), suite.measure == "success"
    areas = np.array([run_area(suite, variant, i) for i, run in enumerate(variant.runs) if variant.finished(run)])
    return MethodScores(
        variant,
        returns,
        scores,
        estimate(scores, *names, "score"),
        estimate(returns, *names, "return"),
        _of_tasks(returns, *names, "return"),
        measured,
        (*_of_tasks(measured, *names, "success"), estimate(measured, *names, "success")) if success else (),
        estimate(worst_task(scores)[:, np.newaxis] if len(finals) else scores, *names, "worst"),
        estimate(areas[np.isfinite(areas), np.newaxis], *names, "area"),
        areas,
        _solving(variant, *names[1:]),
    )


def _of_tasks(values: Array, kind: Interval, *names: object) -> tuple[Estimate, ...]:
    return tuple(estimate(values[:, [m]], kind, *names, m) for m in range(values.shape[1]))


def run_area(suite: Suite, variant: Variant, run: int) -> float:
    """The mean score of a run from its first evaluation to its last, over env steps (trapezoidal rule).

    A run that ended solved goes on with its last score to the length of the others. Where there are few evaluations it
    is that of training, from when all tasks have one.
    """
    tables, end = variant.runs[run].tables, variant.reach(variant.runs[run])
    values = tables.measured(suite.kind)
    if values.shape[1] != len(suite.names):
        return NAN
    for m in range(values.shape[1]):  # a task need not end an episode in every rollout
        seen = np.flatnonzero(np.isfinite(values[:, m]))
        latest = np.searchsorted(seen, np.arange(len(values)), side="right") - 1
        if suite.kind == "train" and len(seen):
            values[:, m] = np.where(latest >= 0, values[seen[np.maximum(latest, 0)], m], np.nan)
    return area_under_curve(tables.beats["env_steps"], average(suite.scores(values), axis=1), end)


def _solving(variant: Variant, *names: object) -> Solving | None:
    steps = variant.steps_to_solve() if variant.runs else np.zeros(0)
    steps = steps[~np.isnan(steps)]
    if not len(steps):
        return None
    low = high = NAN
    median = float(median_steps(steps))
    if len(steps) > 1:
        picks = generator(*names, "solve").integers(0, len(steps), (RESAMPLES, len(steps)))
        low, high = map(float, interval(median_steps(steps[picks]), median))
    return Solving(steps, median, low, high)


def improvements(suite: Suite, found: list[MethodScores]) -> dict[tuple[str, str], Difference]:
    """The probability that a run of the first method scores higher than one of the second, for each pair."""
    pairs = {}
    done = [scores for scores in found if scores.runs]
    for i, ours in enumerate(done):
        for theirs in done[i + 1 :]:
            names = (suite.label, ours.variant.method, theirs.variant.method, "improvement")
            value = float(probability_of_improvement(ours.scores, theirs.scores))
            low = high = NAN
            if min(ours.runs, theirs.runs) > 1:
                rng = generator(*names)
                draws = probability_of_improvement(bootstrap(ours.scores, rng), bootstrap(theirs.scores, rng))
                low, high = map(float, interval(draws, value))
            pairs[ours.variant.method, theirs.variant.method] = Difference(value, low, high)
            pairs[theirs.variant.method, ours.variant.method] = Difference(1 - value, 1 - high, 1 - low)
    return pairs


def transfer(suite: Suite, ours: MethodScores, reference: MethodScores) -> list[Difference]:
    """How much higher a method's mean score is than the reference's, for each task and then in the mean over tasks."""
    if not (ours.runs and reference.runs):
        return []
    value = average(ours.scores, axis=0) - average(reference.scores, axis=0)
    value = np.append(value, average(value))
    low = high = np.full(len(value), np.nan)
    if min(ours.runs, reference.runs) > 1:
        rng = generator(suite.label, ours.variant.method, reference.variant.method, "transfer")
        draws = average(bootstrap(ours.scores, rng), axis=1) - average(bootstrap(reference.scores, rng), axis=1)
        low, high = interval(np.column_stack([draws, average(draws, axis=1)]), value)
    return [Difference(*map(float, row)) for row in zip(value, low, high, strict=True)]


def profile(suite: Suite, found: MethodScores) -> tuple[Array, Array, Array]:
    """Share of runs and tasks whose score is above each of ``THRESHOLDS``, with its interval: (K,) each."""
    share = performance_profile(found.scores, THRESHOLDS)
    low, high = np.full_like(share, np.nan), np.full_like(share, np.nan)
    if found.runs > 1:
        rng = generator(suite.label, found.variant.method, "profile")
        low, high = interval(performance_profile(bootstrap(found.scores, rng), THRESHOLDS), share)
    return share, low, high


def across_suites(study: Study, found: dict[str, list[MethodScores]], kind: Interval) -> dict[str, Estimate]:
    """The mean over suites of the IQM on each, of every method that is finished in all suites that have scores.

    Not the IQM of all scores together: that one leaves out the lowest quarter, and with it a small suite on which a
    method fails altogether. The bootstrap resamples each suite apart. Empty if there are fewer than two such suites.
    """
    suites = [suite for suite in study.suites if suite.scored]
    if len(suites) < 2:
        return {}
    overall = {}
    for method in study.methods:
        parts = [
            scores.scores
            for suite in suites
            for scores in found[suite.label]
            if scores.variant.method == method and scores.runs
        ]
        if len(parts) == len(suites):
            centre = float(average(np.array([iqm(part) for part in parts])))
            low = high = NAN
            runs = [len(part) for part in parts]
            if min(runs) > 1:
                rng = generator(method, "all suites")
                draws = [iqm(bootstrap(part, rng)) for part in parts]
                if kind == "bootstrap":
                    low, high = map(float, interval(average(np.array(draws), axis=0), centre))
                else:
                    low, high = map(float, t_interval(np.array(centre), draws, runs))
            mean = float(average(np.array([average(part) for part in parts])))
            coverage = COVERAGE[kind].get(min(runs), NAN)
            overall[method] = Estimate(mean, NAN, centre, low, high, sum(runs), coverage)
    return overall


def all_scores(study: Study, kind: Interval) -> dict[str, list[MethodScores]]:
    """The numbers of each method that has a run, for each suite by its label."""
    return {suite.label: [method_scores(suite, variant, kind) for variant in suite.started] for suite in study.suites}
