"""``varshare report``: the runs of one experiment over its seeds, as plots, tables of numbers and a table to read."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from varshare_pl.results.aggregate import mean_and_std, median_steps
from varshare_pl.results.curves import Curve, all_curves
from varshare_pl.results.experiment import Experiment, SeedRun, read_experiment, shortened
from varshare_pl.results.report_plots import SHEETS, draw_report
from varshare_pl.results.table import text_table

REPORT, CURVES, SCORES = "report", "curves.csv", "scores.csv"
CURVE_COLUMNS = ("metric", "network", "layer", "task", "env_steps", "mean", "std", "runs")


@dataclass(frozen=True)
class Report:
    """What was written, and the table to print."""

    files: list[Path]
    text: str


def write_report(folder: Path | str) -> Report:
    """Write the report of an experiment's folder ``logs/<experiment>`` into its folder ``report``.

    Files of an earlier report are replaced, or deleted if they would not be written again; others are left alone.
    Every standard deviation is over seeds, with n - 1.

    Raises:
        ConfigError: if the folder holds no runs, or runs that differ in more than the seed.
    """
    experiment = read_experiment(folder)
    target = experiment.folder / REPORT
    target.mkdir(exist_ok=True)
    curves = all_curves(experiment)
    images = draw_report(experiment, curves, target)
    for stale in {target / f"{name}.png" for name in SHEETS} - set(images):
        stale.unlink(missing_ok=True)
    tables = [
        _write_csv(target / CURVES, CURVE_COLUMNS, curve_rows(curves)),
        _write_csv(target / SCORES, score_columns(len(experiment.names)), score_rows(experiment)),
    ]
    return Report([*images, *tables], report_text(experiment))


def curve_rows(curves: Sequence[Curve]) -> Iterable[list[str]]:
    """Every number behind every line and band: mean, std and how many runs they are of."""
    for curve in curves:
        task = "" if curve.task is None else str(curve.task)
        for steps, mean, std, runs in zip(curve.env_steps, *mean_and_std(curve.values), strict=True):
            if runs:
                numbers = (_cell(steps), _cell(mean), _cell(std), str(runs))
                yield [curve.metric, curve.network, curve.layer, task, *numbers]


def score_columns(num_tasks: int) -> list[str]:
    """The columns of ``scores.csv``; the returns are those of the final deterministic evaluation."""
    tasks = (f"final_return_task_{m}" for m in range(num_tasks))
    return ["seed", "run", "state", "env_steps", *tasks, "final_return_mean", "solved", "steps_to_solve", "seconds"]


def score_rows(experiment: Experiment) -> Iterable[list[str]]:
    """A row for each run; an unfinished one has neither returns nor a verdict."""
    rows = zip(experiment.runs, experiment.final_returns(), experiment.steps_to_solve(), strict=True)
    for run, returns, steps in rows:
        finished = experiment.finished(run)
        yield [
            "" if run.info.seed is None else str(run.info.seed),
            run.name,
            "finished" if finished else "unfinished",
            str(run.env_steps),
            *map(_cell, returns),
            _cell(returns.mean()),
            "" if math.isnan(steps) else "yes" if steps < math.inf else "no",
            _cell(steps) if steps < math.inf else "",
            _cell(run.seconds),
        ]


def report_text(experiment: Experiment) -> str:
    """The final scores over seeds as a table, what they are of, and which runs are not in them."""
    finished = [run for run in experiment.runs if experiment.finished(run)]
    lines = [*_scores(experiment), _solved(experiment)] if finished else ["no finished run, so no final scores"]
    behind = [_progress(run, experiment.length) for run in experiment.runs if not experiment.finished(run)]
    if behind:
        lines.append(f"unfinished, not in the scores: {'; '.join(behind)}")
    return "\n".join([*filter(None, lines), _protocol(experiment, finished)])


def _scores(experiment: Experiment) -> list[str]:
    returns = experiment.final_returns()
    with_mean = np.concatenate([returns, returns.mean(axis=1, keepdims=True)], axis=1)
    names = [(str(m), name) for m, name in enumerate(experiment.names)] + [("mean", "")]
    rows = [("task", "", "final return", "std", "seeds")]
    for name, mean, std, runs in zip(names, *mean_and_std(with_mean), strict=True):
        rows.append((*name, f"{mean:.1f}", "-" if math.isnan(std) else f"{std:.1f}", str(runs)))
    return text_table(rows)


def _solved(experiment: Experiment) -> str:
    steps = experiment.steps_to_solve()
    steps = steps[~np.isnan(steps)]
    if not len(steps):
        return ""  # the suite does not say when it is solved
    unsolved = int(np.isinf(steps).sum())
    median = median_steps(steps)
    line = f"solved: {len(steps) - unsolved} of {len(steps)} seeds; median env steps to solve: "
    line += f"{median:,.0f}" if median < math.inf else "none, too few seeds solved"
    return line + (f" ({unsolved} unsolved, counted as slower than any other)" if unsolved else "")


def _progress(run: SeedRun, length: int | None) -> str:
    return f"{run.name} at {run.env_steps:,}" + ("" if length is None else f" of {length:,}") + " env steps"


def _protocol(experiment: Experiment, finished: Sequence[SeedRun]) -> str:
    """In one line what the scores are of."""
    info = experiment.info
    parts = [
        (info.suite or info.experiment) + ("" if info.suite_version is None else f" v{info.suite_version}"),
        info.method,
        _seeds(finished or experiment.runs),
    ]
    lengths = sorted({int(run.summary["final"]["env_steps"]) for run in finished})
    if lengths:
        parts.append(" to ".join(f"{steps:,}" for steps in dict.fromkeys((lengths[0], lengths[-1]))) + " env steps")
        episodes = sorted({str(run.summary["final"]["episodes_per_task"]) for run in finished})
        parts.append(f"deterministic evaluation of the final weights, {' or '.join(episodes)} episodes a task")
        if info.solved_return is not None:
            parts.append(f"solved: every task's mean return >= {info.solved_return:g}")
        if len(finished) > 1:
            parts.append("std over seeds (n - 1)")
    extended = [run.name for run in finished if run.summary.get("extended")]
    if extended:
        parts.append(f"extended after a shorter run: {shortened(extended)}")
    return "protocol: " + "; ".join(part for part in parts if part)


def _seeds(runs: Sequence[SeedRun]) -> str:
    seeds = [run.info.seed for run in runs if run.info.seed is not None]
    if len(seeds) > 3 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seed{'s' * (len(seeds) != 1)} {', '.join(map(str, seeds))}" if seeds else ""


def _cell(value: float) -> str:
    """A number to nine digits, counts in full; nothing for NaN."""
    return "" if math.isnan(value) else str(int(value)) if value == int(value) else f"{value:.9g}"


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Path:
    """Write beside the file, then replace it: a reader never sees half a table."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    part = path.with_name(f".{path.stem}.{os.getpid()}.part")
    try:
        part.write_text(text.getvalue(), encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
