"""The runs of one experiment: found, read, and checked to differ in nothing but their seeds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varshare_pl.errors import ConfigError
from varshare_pl.results.files import DIAGNOSTICS, HEARTBEAT, no_diagnostics, read_diagnostics, read_heartbeat
from varshare_pl.results.info import RUN_FILE, RunInfo, read_json, read_run_info
from varshare_pl.results.run_tables import RunTables
from varshare_pl.run_folder import CONFIG_FILE, SUMMARY_FILE

SECTIONS = ("data.", "model.", "evaluation.")  # of a config: what makes a run what it is
MAY_DIFFER = frozenset({"data.total_env_steps", "data.backend", "data.info_metrics", "model.diagnostics_every"})
METHOD = "model.sharing."
WORDS = {"": "given", "{}": "empty"}  # of a section's own line
STOP_RULE = "evaluation.stop_when_solved"


@dataclass(frozen=True)
class SeedRun:
    """One run of an experiment; its tables may have no rows yet."""

    folder: Path
    tables: RunTables
    options: dict[str, str]  # of its config, as text
    summary: dict[str, Any]  # empty without one

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def info(self) -> RunInfo:
        return self.tables.info

    @property
    def env_steps(self) -> int:
        """How far the run has come."""
        return int(self.tables.beats["env_steps"].max(initial=0))

    @property
    def seconds(self) -> float:
        """Wall time of training so far, all sessions of a resumed run together; NaN if not known."""
        times = self.tables.column("wall_time_s")
        return float(np.nanmax(times)) if np.isfinite(times).any() else float("nan")


@dataclass(frozen=True)
class Experiment:
    """The runs of one experiment, ordered by seed; they differ in nothing but the seed and how far they have come."""

    folder: Path
    runs: tuple[SeedRun, ...]

    @property
    def info(self) -> RunInfo:
        return self.runs[0].info

    @property
    def names(self) -> list[str]:
        """A name for each task."""
        return self.info.names_for(max(len(self.info.task_names), *(run.tables.num_tasks for run in self.runs)))

    @property
    def length(self) -> int | None:
        """Env steps that the runs are to come to: the most that any was given."""
        return max((run.info.length for run in self.runs if run.info.length is not None), default=None)

    def finished(self, run: SeedRun) -> bool:
        """Whether a run has a final evaluation and came to the experiment's length, or solved it and was to stop then.

        A run that is shorter than another of the experiment, which was extended, is not finished.
        """
        final = run.summary.get("final")
        if not final:
            return False
        if run.options.get(STOP_RULE, "null") != "null" and final["solved"]:
            return True
        return bool(run.summary.get("finished")) and final["env_steps"] >= (self.length or 0)

    def final_returns(self) -> NDArray[np.float64]:
        """(num_runs, num_tasks): returns of the final deterministic evaluation, NaN in the rows of unfinished runs."""
        returns = np.full((len(self.runs), len(self.names)), np.nan)
        for row, run in zip(returns, self.runs, strict=True):
            if self.finished(run):
                row[:] = run.summary["final"]["return_per_task"]
        return returns

    def steps_to_solve(self) -> NDArray[np.float64]:
        """(num_runs,): env steps to solve, inf for a run that ended unsolved, NaN for an unfinished one.

        NaN for all where the suite has no return from which on a task counts as solved.
        """
        steps = np.full(len(self.runs), np.nan)
        for i, run in enumerate(self.runs):
            if self.finished(run) and run.summary["final"]["solved"] is not None:
                solved_at = run.summary.get("steps_to_solve")
                steps[i] = np.inf if solved_at is None else solved_at
        return steps


def read_experiment(folder: Path | str) -> Experiment:
    """Read the runs in a folder ``logs/<experiment>``, those without a row too.

    Raises:
        ConfigError: if there are none, or if they are not seeds of one experiment.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder")
    if _is_run(folder):
        raise ConfigError(
            f"{folder} is the folder of one run; give the folder above it, {folder.resolve().parent}, "
            f"or draw the run alone with 'varshare plot {folder}'"
        )
    runs = [_read_run(path) for path in folder.iterdir() if path.is_dir() and _is_run(path)]
    if not runs:
        raise ConfigError(f"{folder} holds no run; give the folder of an experiment, as logs/NAME")
    runs.sort(key=lambda run: (run.info.seed is None, run.info.seed, run.name))
    _check_alike(folder, runs)
    return Experiment(folder, tuple(runs))


def shortened(names: Sequence[str], most: int = 4) -> str:
    """Names in a line, the first few of many."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (RUN_FILE, HEARTBEAT, CONFIG_FILE))


def _read_run(folder: Path) -> SeedRun:
    beats = read_heartbeat(folder) if _has_lines(folder / HEARTBEAT) else {"env_steps": np.zeros(0)}
    details = read_diagnostics(folder) if _has_lines(folder / DIAGNOSTICS) else no_diagnostics()
    tables = RunTables(beats, details, read_run_info(folder))
    return SeedRun(folder, tables, _read_options(folder / CONFIG_FILE), read_json(folder / SUMMARY_FILE))


def _has_lines(path: Path) -> bool:
    """Whether a table has come to have a header; a run that has just started may have none yet."""
    try:
        with path.open("rb") as table:
            return table.readline().endswith(b"\n")
    except FileNotFoundError:
        return False


def _read_options(path: Path) -> dict[str, str]:
    """The options of a saved config by their full names, as text: enough to see which of them differ."""
    options: dict[str, str] = {}
    stack: list[tuple[int, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        indent = len(line) - len(line.lstrip())
        key = re.match(r"\s*([\w.]+):(?:\s+(.*))?$", line)
        if key:
            stack = [(depth, name) for depth, name in stack if depth < indent] + [(indent, key[1])]
        text = (key[2] or "") if key else line.strip().removeprefix("- ")
        name = ".".join(name for _, name in stack)
        options[name] = f"{options.get(name, '')} {text}".strip()
    return {name: text for name, text in options.items() if name.startswith(SECTIONS) and name not in MAY_DIFFER}


def _facts(run: SeedRun) -> dict[str, str]:
    """What has to be the same in all runs, as far as it is known of this one."""
    info, steps = run.info, run.tables.beats["env_steps"]
    facts = {
        "suite": info.suite,
        "suite version": "" if info.suite_version is None else str(info.suite_version),
        "method": info.method,
        "tasks": ", ".join(info.task_names or info.names_for(run.tables.num_tasks)),
        "rollout size": f"{np.diff(steps, prepend=0).min():.0f} env steps" if len(steps) else "",
    }
    return {name: value for name, value in facts.items() if value} | run.options


def _check_alike(folder: Path, runs: Sequence[SeedRun]) -> None:
    """Refuse to average runs that differ in more than their seed, or one seed twice.

    A fact that one of two runs does not have, such as an option that came with a later version, is not compared.
    """
    values: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        for fact, value in _facts(run).items():
            values.setdefault(fact, {}).setdefault(value, []).append(run.name)
    several_methods = len(values.get("method", {})) > 1
    differing = [
        f"{fact} is "
        + ", ".join(f"{WORDS.get(value, value)} in {shortened(names, 3)}" for value, names in found.items())
        for fact, found in values.items()
        if len(found) > 1 and not (several_methods and fact.startswith(METHOD))  # each method has options of its own
    ]
    if differing:
        more = f"; and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise ConfigError(f"{folder}: its runs differ in more than the seed: {'; '.join(differing[:3])}{more}")
    for run, following in pairwise(runs):
        if run.info.seed is not None and run.info.seed == following.info.seed:
            raise ConfigError(f"{folder}: {run.name} and {following.name} are both of seed {run.info.seed}")
