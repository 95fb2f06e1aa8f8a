"""Runs of one sharing method: read from disk, as a table and as curves."""

from __future__ import annotations

import csv
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.ratios import UsageError
from varshare_pl.results.info import read_json

Array = NDArray[np.float64]
SUITES = ("ComplexCartPole", "IdenticalCartPole", "MirroredCartPole")
SOLVED = 475


@dataclass(frozen=True)
class Run:
    """A finished run."""

    seed: int
    env_steps: Array  # (P,) of each evaluation
    returns: Array  # (P, M) mean return of each task
    final: Array  # (M,) of the final weights
    steps_to_solve: int | None  # None: not solved


@dataclass(frozen=True)
class MethodRuns:
    """The runs of a method, by suite and then in the order of seeds."""

    method: str
    suites: dict[str, list[Run]]


def read_runs(folder: Path, method: str) -> MethodRuns:
    """The finished runs of a method at any depth below a folder.

    Raises:
        UsageError: if a suite has none, or a seed twice.
    """
    suites: dict[str, list[Run]] = {suite: [] for suite in SUITES}
    for path in sorted(folder.rglob("summary.json")):
        summary = read_json(path)
        if summary["method"] == method and summary["suite"] in suites:
            suites[summary["suite"]].append(_read_run(path.parent, summary))
    for suite, runs in suites.items():
        seeds = sorted(run.seed for run in runs)
        if not seeds or len(set(seeds)) < len(seeds):
            raise UsageError(f"{folder}: runs of {method} on {suite} have the seeds {seeds}; one run a seed is needed")
        runs.sort(key=lambda run: run.seed)
    return MethodRuns(method, suites)


def _read_run(folder: Path, summary: dict[str, Any]) -> Run:
    with (folder / "heartbeat.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["eval/return_task_0"]]
    columns = [f"eval/return_task_{task}" for task in range(len(summary["task_names"]))]
    return Run(
        seed=summary["seed"],
        env_steps=np.array([float(row["env_steps"]) for row in rows]),
        returns=np.array([[float(row[column]) for column in columns] for row in rows]),
        final=np.array(summary["final"]["return_per_task"]),
        steps_to_solve=summary["steps_to_solve"],
    )


def solved_steps(runs: list[Run]) -> list[int]:
    """Steps to solve of the runs that did, ascending."""
    return sorted(run.steps_to_solve for run in runs if run.steps_to_solve is not None)


def suite_cell(runs: list[Run]) -> str:
    """Solved seeds, and the steps by which half of all seeds had; one that did not is slower than any other."""
    steps = [math.inf if run.steps_to_solve is None else run.steps_to_solve for run in runs]
    median = statistics.median_low(steps)
    told = f", {median / 1000:.0f}k" if math.isfinite(median) else ""
    return f"{len(solved_steps(runs))}/{len(runs)}{told}"


def results_table(runs: MethodRuns) -> str:
    """A row for each suite; solved and steps to solve as everywhere: every task's mean ≥ 475, from then on."""
    lines = ["| suite | solved seeds | env steps to solve | final return, seed by seed | worst task |"]
    lines.append("|---|---:|---:|---:|---:|")
    for suite, found in runs.suites.items():
        steps = ", ".join(f"{value / 1000:.0f}k" for value in solved_steps(found)) or "–"
        finals = ", ".join(f"{run.final.mean():.0f}" for run in found)
        worst = ", ".join(f"{run.final.min():.0f}" for run in found)
        lines.append(f"| {suite} | {len(solved_steps(found))}/{len(found)} | {steps} | {finals} | {worst} |")
    return "\n".join(lines)


def draw(runs: MethodRuns, path: Path) -> None:
    """A panel for each suite: mean over tasks (line: mean of the seeds; band: their least to most) and worst task."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 2.9), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    for axes, (suite, found) in zip(
        figure.subplots(1, len(runs.suites), sharey=True), runs.suites.items(), strict=True
    ):
        points = min(len(run.env_steps) for run in found)
        steps = found[0].env_steps[:points] / 1000
        means = np.stack([run.returns[:points].mean(axis=1) for run in found])
        worst = np.stack([run.returns[:points].min(axis=1) for run in found])
        axes.fill_between(steps, means.min(axis=0), means.max(axis=0), color="#0072B2", alpha=0.2, linewidth=0)
        axes.plot(steps, means.mean(axis=0), color="#0072B2", label="mean of the tasks (mean and range of the seeds)")
        axes.plot(
            steps,
            worst.mean(axis=0),
            color="#D55E00",
            linestyle="--",
            linewidth=1,
            label="worst task (mean of the seeds)",
        )
        axes.axhline(SOLVED, color="#888888", linewidth=0.8, linestyle=":", label=f"solved ({SOLVED})")
        axes.set_title(suite, fontsize=10.5)
        axes.set_xlabel("env steps, thousands", fontsize=9)
        axes.set_ylim(0, 515)
        axes.set_xlim(left=0)
        axes.tick_params(labelsize=8.5)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("return, deterministic", fontsize=9)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False, fontsize=9)
    figure.subplots_adjust(left=0.06, right=0.99, top=0.9, bottom=0.29, wspace=0.08)
    figure.savefig(path, metadata={"Software": None})
