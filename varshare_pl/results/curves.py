"""The curves of an experiment: a value over env steps for each of its runs, all on one grid.

The grid of a curve holds every env step at which some run has the value. In between its own values a run counts with
its last one: a task need not end an episode in every rollout, evaluations are rare, and details are written every
few rollouts. Before its first value and beyond its last rollout a run does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from varshare_pl.results.aggregate import carry_forward
from varshare_pl.results.experiment import Experiment
from varshare_pl.results.lines import NETWORKS, by_task, spread
from varshare_pl.results.run_tables import RunTables

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A metric of every run over env steps."""

    metric: str
    env_steps: Array  # (P,)
    values: Array  # (num_runs, P), NaN where a run does not count
    network: str = ""  # "" where it is of all networks or of none
    layer: str = ""
    task: int | None = None  # None: the mean over tasks


def all_curves(experiment: Experiment) -> list[Curve]:
    """Every curve for which some run has values."""
    curves = [
        *return_curves(experiment, "train"),
        *return_curves(experiment, "eval"),
        *layer_curves(experiment, "sharing/ratio"),
        *task_curves(experiment, "sharing/ratio"),
        *layer_curves(experiment, "sharing/theta_norm"),
        *layer_curves(experiment, "sharing/mu_norm"),
        *task_curves(experiment, "kl/posterior", total=True),
        column_curve(experiment, "kl/policy"),
    ]
    return [curve for curve in curves if np.isfinite(curve.values).any()]


def return_curves(experiment: Experiment, kind: str) -> list[Curve]:
    """Returns of training (``train``) or of evaluations (``eval``): a curve for each task, and their mean.

    The mean over tasks is that of the tasks' carried values, not of the tasks that happened to end an episode.
    """

    def table(run: RunTables) -> tuple[Array, Array]:
        returns = run.per_task(f"{kind}/return_task")
        known = np.isfinite(returns).any(axis=1)
        return run.beats["env_steps"][known], returns[known]

    return _with_mean(f"{kind}/return", *_on_a_grid(experiment, table))


def task_curves(experiment: Experiment, metric: str, total: bool = False) -> list[Curve]:
    """A detail for each task, and the mean over tasks: mean, or total, over networks and layers."""

    def table(run: RunTables) -> tuple[Array, Array]:
        return by_task(run.details.where(metric), run.num_tasks, total)

    return _with_mean(metric, *_on_a_grid(experiment, table))


def layer_curves(experiment: Experiment, metric: str) -> list[Curve]:
    """A detail for each network and layer, mean over tasks."""
    layers = max((run.tables.details.where(metric).layers() for run in experiment.runs), key=len)
    curves = []
    for network in NETWORKS:
        for layer in layers:

            def table(run: RunTables, network: str = network, layer: str = layer) -> tuple[Array, Array]:
                steps, mean, _, _ = spread(run.details.where(metric, network, layer))
                return steps, mean[:, np.newaxis]

            steps, values = _on_a_grid(experiment, table, columns=1)
            curves.append(Curve(metric, steps, values[:, :, 0], network, layer))
    return curves


def column_curve(experiment: Experiment, name: str) -> Curve:
    """A column of the heartbeat."""

    def table(run: RunTables) -> tuple[Array, Array]:
        values = run.column(name)
        known = np.isfinite(values)
        return run.beats["env_steps"][known], values[known, np.newaxis]

    steps, values = _on_a_grid(experiment, table, columns=1)
    return Curve(name, steps, values[:, :, 0])


def _with_mean(metric: str, steps: Array, values: Array) -> list[Curve]:
    """A curve for each task of (num_runs, P, M), and one for their mean, which is NaN until all tasks have a value."""
    tasks = [Curve(metric, steps, values[:, :, m], task=m) for m in range(values.shape[2])]
    return [*tasks, Curve(metric, steps, values.mean(axis=2))]


def _on_a_grid(
    experiment: Experiment, table: Callable[[RunTables], tuple[Array, Array]], columns: int | None = None
) -> tuple[Array, Array]:
    """Env steps (P,) and values (num_runs, P, C) of every run, from a table of each: (R,) and (R, C)."""
    columns = len(experiment.names) if columns is None else columns
    tables = [table(run.tables) for run in experiment.runs]
    grid = np.unique(np.concatenate([steps for steps, _ in tables]))
    values = np.full((len(tables), len(grid), columns), np.nan)
    for out, run, (steps, cells) in zip(values, experiment.runs, tables, strict=True):
        for c in range(cells.shape[1]):
            out[:, c] = carry_forward(steps, cells[:, c], run.env_steps, grid)
    return grid, values


def pick(curves: Sequence[Curve], metric: str, network: str = "") -> list[Curve]:
    """The curves of a metric and network, in their order."""
    return [curve for curve in curves if curve.metric == metric and curve.network == network]
