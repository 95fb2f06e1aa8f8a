"""Curves over env steps or wall time: a value of each run and task, all on one grid, and their bands.

The grid of a curve holds every env step at which some run has the value, or so many of them. In between its own
values a run counts with its last one: a task need not end an episode in every rollout, evaluations are rare, and
details are written every few rollouts. Before its first value and beyond its last rollout a run does not count, unless
it was to stop when solved and did: it counts with its last values up to the length of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from varshare_pl.results.lines import NETWORKS, by_task, spread
from varshare_pl.results.run_tables import RunTables
from varshare_pl.results.statistics import (
    Interval,
    average,
    carry_forward,
    generator,
    iqm_interval,
    mean_and_std,
    same_runs,
)
from varshare_pl.results.variant import Variant

Array = NDArray[np.float64]
Table = Callable[[RunTables], tuple[Array, Array]]
MOST_POINTS = 100
RESAMPLES = 1000  # of a band; single numbers have more
SHARING = ("sharing/ratio", "sharing/theta_norm", "sharing/mu_norm", "kl/posterior", "kl/policy")


@dataclass(frozen=True)
class Curve:
    """A metric of every run."""

    metric: str
    x: Array  # (P,) env steps, or seconds
    values: Array  # (num_runs, P, num_tasks), NaN where a run does not count; one column if it is of no task
    network: str = ""  # "" where it is of all networks or of none
    layer: str = ""
    by_task: bool = False


@dataclass(frozen=True)
class Band:
    """Statistics over runs at each point: of all tasks together, or of one."""

    metric: str
    network: str
    layer: str
    task: int | None
    x: Array  # (P,), as is every statistic
    mean: Array  # over runs of each one's mean over tasks
    std: Array
    iqm: Array  # over runs and tasks
    low: Array  # the 95 % interval of the IQM
    high: Array
    runs: NDArray[np.int64]


def task_curve(variant: Variant, kind: str, measure: str = "return") -> Curve:
    """Returns, or success, of training (``train``) or of evaluations (``eval``) of each task."""

    def table(run: RunTables) -> tuple[Array, Array]:
        return _known_rows(run, run.per_task(f"{kind}/{measure}_task"), "env_steps")

    return Curve(f"{kind}/{measure}", *_on_a_grid(variant, table, len(variant.names)), by_task=True)


def wall_time_curve(variant: Variant, kind: str) -> Curve:
    """What success is measured by over seconds of training."""
    columns, metric = len(variant.names), f"{kind}/{variant.info.measure}"
    return _over_seconds(variant, metric, lambda run: run.measured(kind), columns, True)


def wall_time_sharing(variant: Variant) -> list[Curve]:
    """Sharing, norms and KLs of the whole network over seconds of training."""

    def curve(name: str) -> Curve:
        return _over_seconds(variant, name, lambda run: run.column(name)[:, np.newaxis], 1)

    return [found for found in map(curve, SHARING) if len(found.x)]


def _over_seconds(
    variant: Variant, metric: str, values_of: Callable[[RunTables], Array], columns: int, by_task: bool = False
) -> Curve:
    """Interpolated; from where all runs have a value to where one ends that did not end solved.

    One that ended solved counts on with its last value; if all did, to where the last of them ends. Of the finished
    runs if there are any: a run that has just started would leave nothing to see.
    """
    found: list[tuple[Array, Array]] = []
    ends = []
    for run in variant.finals or variant.runs:
        seconds, known = _known_rows(run.tables, values_of(run.tables), "wall_time_s")
        if len(seconds) and np.isfinite(known).any(axis=0).all():
            found.append((seconds, known))
            ends += [] if variant.ended_solved(run) else [seconds[-1]]
    start = max((seconds[np.isfinite(known).argmax(axis=0)].max() for seconds, known in found), default=0.0)
    end = min(ends) if ends else max((seconds[-1] for seconds, _ in found), default=0.0)
    grid = np.linspace(start, end, MOST_POINTS // 2) if start < end else np.zeros(0)
    values = np.full((len(found), len(grid), columns), np.nan)
    for out, (seconds, known) in zip(values, found, strict=True):
        for m in range(known.shape[1]):
            seen = np.isfinite(known[:, m])
            out[:, m] = np.interp(grid, seconds[seen], known[seen, m])
    return Curve(metric, grid, values, by_task=by_task)


def sharing_curves(variant: Variant) -> list[Curve]:
    """Sharing, norms and KLs of the whole network; then of each layer; then ratio and KL of each task."""
    columns = [Curve(name, *_on_a_grid(variant, _column(name), 1)) for name in SHARING]
    layers = [curve for name in SHARING[:3] for curve in _layer_curves(variant, name)]
    tasks = [_task_curve(variant, "sharing/ratio"), _task_curve(variant, "kl/posterior", total=True)]
    return [curve for curve in (*columns, *layers, *tasks) if np.isfinite(curve.values).any()]


def bands(curve: Curve, kind: Interval, *names: str, tasks: bool = True) -> list[Band]:
    """The band of all tasks, and one for each if there are several and ``tasks`` are asked for.

    Intervals are of that kind. The names are those of the suite and the method: they decide what is drawn at random.
    """
    found = [_band(curve, None, kind, names)]
    if tasks and curve.by_task and curve.values.shape[2] > 1:
        found += [
            _band(replace(curve, values=curve.values[:, :, [m]]), m, kind, names) for m in range(curve.values.shape[2])
        ]
    return [band for band in found if len(band.x)]


def _band(curve: Curve, task: int | None, kind: Interval, names: Sequence[str]) -> Band:
    means = average(curve.values, axis=2)  # NaN until all tasks have a value
    mean, std, runs = mean_and_std(means)
    centre = np.full((3, len(curve.x)), np.nan)
    for part in same_runs(means):
        present = np.isfinite(means[:, part.start])
        rng = generator(*names, curve.metric, curve.network, curve.layer, task)
        centre[:, part] = _intervals(curve.values[present, part], rng, kind)
    kept = runs > 0
    columns = (curve.x, mean, std, *centre, runs)
    x, mean, std, middle, low, high, runs = (column[kept] for column in columns)
    return Band(curve.metric, curve.network, curve.layer, task, x, mean, std, middle, low, high, runs.astype(np.int64))


def _intervals(values: Array, rng: np.random.Generator, kind: Interval) -> Array:
    """IQM and its interval (3, P) of (num_runs, P, num_tasks), all points resampled alike."""
    return iqm_interval(values.swapaxes(0, 1), rng, kind, RESAMPLES)


def _layer_curves(variant: Variant, metric: str) -> Iterator[Curve]:
    """A detail for each network and layer, mean over tasks."""
    layers = max((run.tables.details.where(metric).layers() for run in variant.runs), key=len, default=[])
    for network in NETWORKS:
        for layer in layers:

            def table(run: RunTables, network: str = network, layer: str = layer) -> tuple[Array, Array]:
                steps, mean, _, _ = spread(run.details.where(metric, network, layer))
                return steps, mean[:, np.newaxis]

            yield Curve(metric, *_on_a_grid(variant, table, 1), network, layer)


def _task_curve(variant: Variant, metric: str, total: bool = False) -> Curve:
    """A detail for each task: mean, or total, over networks and layers."""

    def table(run: RunTables) -> tuple[Array, Array]:
        return by_task(run.details.where(metric), run.num_tasks, total)

    return Curve(f"{metric}_by_task", *_on_a_grid(variant, table, len(variant.names)), by_task=True)


def _column(name: str) -> Table:
    """A column of the heartbeat."""
    return lambda run: _known_rows(run, run.column(name)[:, np.newaxis], "env_steps")


def _known_rows(run: RunTables, values: Array, x: str) -> tuple[Array, Array]:
    """The rows that have a value: x (R,) and values (R, C)."""
    known = np.isfinite(values).any(axis=1) & np.isfinite(run.column(x))
    return run.column(x)[known], values[known]


def _on_a_grid(variant: Variant, table: Table, columns: int) -> tuple[Array, Array]:
    """Env steps (P,) and values (num_runs, P, C) of every run, from a table of each: (R,) and (R, C)."""
    tables = [table(run.tables) for run in variant.runs]
    carried = [[variant.reach(run)] for run in variant.runs if variant.ended_solved(run)]
    grid = np.unique(np.concatenate([*(steps for steps, _ in tables), *carried])) if tables else np.zeros(0)
    if len(grid) > MOST_POINTS:
        grid = grid[np.round(np.linspace(0, len(grid) - 1, MOST_POINTS)).astype(np.intp)]
    values = np.full((len(tables), len(grid), columns), np.nan)
    for out, run, (steps, cells) in zip(values, variant.runs, tables, strict=True):
        for c in range(cells.shape[1]):
            out[:, c] = carry_forward(steps, cells[:, c], variant.reach(run), grid)
    return grid, values
