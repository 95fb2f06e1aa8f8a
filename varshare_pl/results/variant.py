"""The runs of one variant of a study, or of one experiment: read, and checked to differ in nothing but their seeds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varshare_pl.errors import ConfigError
from varshare_pl.results.anchors import anchors_text
from varshare_pl.results.files import HEARTBEAT
from varshare_pl.results.info import RUN_FILE, RunInfo, read_json
from varshare_pl.results.run_tables import RunTables, read_tables
from varshare_pl.run_folder import CONFIG_FILE, SUMMARY_FILE

SECTIONS = ("data.", "model.", "evaluation.")  # of a config: what makes a run what it is
MAY_DIFFER = frozenset(
    {
        *("data.total_env_steps", "data.backend", "data.num_workers", "data.worker_timeout"),
        *("data.info_metrics", "model.diagnostics_every"),
    }
)
METHOD = "model.sharing."
WORDS = {"": "given", "{}": "empty"}  # of a section's own line
STOP_RULE = "evaluation.stop_when_solved"


@dataclass(frozen=True)
class Final:
    """The deterministic evaluation of a run's final weights."""

    env_steps: int
    returns: tuple[float, ...]  # of each task
    episodes: int  # a task
    solved: bool | None  # None: the suite has no number from which on a task counts as solved
    steps_to_solve: float  # inf if it is not solved
    success: tuple[float, ...] | None = None  # of each task; None where success is measured by the return

    @property
    def measured(self) -> tuple[float, ...]:
        """What success is measured by, of each task."""
        return self.returns if self.success is None else self.success


@dataclass(frozen=True)
class SeedRun:
    """One run; its tables may have no rows yet."""

    folder: Path
    tables: RunTables
    options: dict[str, str]  # of its config, as text
    summary: dict[str, Any]  # empty without one
    final: Final | None = None

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
class Variant:
    """One method on one suite: its runs by seed, which differ in nothing but the seed and how far they have come."""

    name: str
    suite: str  # the label that tables and figures show
    method: str
    folder: Path
    runs: tuple[SeedRun, ...]
    seeds: tuple[int, ...] = ()  # that there are to be; those of the runs if nobody said
    failures: Mapping[int, str] = field(default_factory=dict)  # seed → the error that ended its run
    planned_steps: int | None = None

    @property
    def info(self) -> RunInfo:
        """What its runs are; known of all that have come to write it."""
        return next((run.info for run in self.runs if run.info.suite), self.runs[0].info)

    @property
    def names(self) -> list[str]:
        """A name for each task."""
        return self.info.names_for(max(len(self.info.task_names), *(run.tables.num_tasks for run in self.runs)))

    @property
    def planned(self) -> int:
        """How many runs there are to be."""
        return max(len(self.seeds), len(self.runs))

    @property
    def length(self) -> int | None:
        """Env steps that the runs are to come to: the most that any was given."""
        lengths = [self.planned_steps, *(run.info.length for run in self.runs)]
        return max((length for length in lengths if length is not None), default=None)

    def finished(self, run: SeedRun) -> bool:
        """Whether a run has a final evaluation and came to the full length, or solved it and was to stop then.

        A run that is shorter than another of its variant, which was extended, is not finished.
        """
        final = run.final
        if final is None:
            return False
        if run.options.get(STOP_RULE, "null") != "null" and final.solved:
            return True
        return bool(run.summary.get("finished")) and final.env_steps >= (self.length or 0)

    def ended_solved(self, run: SeedRun) -> bool:
        """Whether a finished run ended before its length because it was to stop once solved, and did solve."""
        return run.final is not None and self.finished(run) and run.final.env_steps < (self.length or 0)

    def reach(self, run: SeedRun) -> int:
        """Env steps up to which a run counts: as far as it has come, or the whole length if it ended solved.

        Without its last value carried on, only the runs that have yet to solve would be left in a mean.
        """
        return (self.length or 0) if self.ended_solved(run) else run.env_steps

    def state(self, run: SeedRun) -> str:
        """``finished``, ``failed`` or ``unfinished``."""
        if self.finished(run):
            return "finished"
        return "failed" if run.info.seed in self.failures else "unfinished"

    @property
    def finals(self) -> list[SeedRun]:
        """The finished runs: those that scores are of."""
        return [run for run in self.runs if self.finished(run)]

    def steps_to_solve(self) -> NDArray[np.float64]:
        """(num_runs,): env steps to solve, inf for a run that ended unsolved, NaN for an unfinished one.

        NaN for all where the suite has no number from which on a task counts as solved.
        """
        steps = np.full(len(self.runs), np.nan)
        for i, run in enumerate(self.runs):
            if self.finished(run) and run.final is not None and run.final.solved is not None:
                steps[i] = run.final.steps_to_solve
        return steps


def read_runs(folder: Path) -> tuple[SeedRun, ...]:
    """Read the runs in a folder, those without a row too, ordered by seed; none if there is none.

    Raises:
        ConfigError: if they differ in more than the seed, or if a file is spoilt.
    """
    runs = [read_run(path) for path in folder.iterdir() if path.is_dir() and is_run(path)] if folder.is_dir() else []
    runs.sort(key=lambda run: (run.info.seed is None, run.info.seed, run.name))
    _check_alike(folder, runs)
    return tuple(runs)


def shortened(names: Sequence[str], most: int = 4) -> str:
    """Names in a line, the first few of many."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def listed(names: Sequence[str]) -> str:
    """Names in a line, so that other names never give the same line."""
    return ", ".join(repr(name) if set(name) & set(",'\"\n") else name for name in names)


def is_run(folder: Path) -> bool:
    """Whether the folder is that of a run."""
    return any((folder / name).is_file() for name in (RUN_FILE, HEARTBEAT, CONFIG_FILE))


def read_run(folder: Path) -> SeedRun:
    """Read the files of a run, as far as there are any.

    Raises:
        ConfigError: if one is spoilt.
    """
    tables = read_tables(folder, started=True)
    summary = read_json(folder / SUMMARY_FILE)
    tasks = len(tables.info.task_names) or tables.num_tasks
    final = _read_final(folder / SUMMARY_FILE, summary, tasks, tables.info.measure == "success")
    return SeedRun(folder, tables, _read_options(folder / CONFIG_FILE), summary, final)


def _read_final(path: Path, summary: dict[str, Any], tasks: int, measured: bool) -> Final | None:
    final, solved_at = summary.get("final"), summary.get("steps_to_solve")
    if not final:
        return None
    try:
        returns = tuple(map(float, final["return_per_task"]))
        success = tuple(map(float, final["success_per_task"])) if measured else None
        steps = float("inf") if solved_at is None else float(solved_at)
        episodes = int(final["episodes_per_task"])
        found = Final(int(final["env_steps"]), returns, episodes, final["solved"], steps, success)
        if not (found.solved in (True, False, None) and found.env_steps >= 0 and steps >= 0):
            raise ValueError(f"solved {found.solved}, {found.env_steps} env steps, {solved_at} steps to solve")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{path}: its final evaluation is not one: {type(error).__name__}: {error}") from None
    for name, values in (("return", returns), ("success", found.measured)):
        if (tasks and len(values) != tasks) or not np.isfinite(values).all():
            raise ConfigError(f"{path}: final.{name}_per_task is {list(values)}; {tasks} finite numbers are allowed")
    return found


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
        "tasks": listed(info.task_names or info.names_for(run.tables.num_tasks)),
        "number of tasks": str(run.tables.num_tasks or ""),
        f"solved {info.measure}": "" if info.solved is None else f"{info.solved:g}",
        "success": info.rule,
        "anchors": anchors_text(info.anchors),
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
    unknown = [run for run in runs if run.info.seed is None and run.env_steps]
    for run, other in combinations(unknown, 2):
        if _same_rows(run.tables.beats, other.tables.beats):
            raise ConfigError(f"{folder}: {run.name} and {other.name} hold the same rows; a run counts once")


def _same_rows(ours: Mapping[str, NDArray[np.float64]], theirs: Mapping[str, NDArray[np.float64]]) -> bool:
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name], True) for name in ours)
