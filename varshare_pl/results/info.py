"""What a run was: read from the ``run.json`` that it writes at its start."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from varshare_pl.errors import ConfigError
from varshare_pl.types import Anchors

RUN_FILE = "run.json"
RULES = {  # of a number of the info, by how it is reduced over an episode
    "any": "1 where {} of the info is above 0 at any step, else 0",
    "last": "{} of the info at the last step",
    "max": "the highest {} of the info",
    "mean": "the mean {} of the info over the steps",
}


@dataclass(frozen=True)
class RunInfo:
    """What a run was; whatever the file does not tell is empty or None."""

    experiment: str
    seed: int | None
    suite: str
    method: str
    task_names: tuple[str, ...]
    solved: float | None  # the mean of the measure from which on a task is solved
    suite_version: int | None = None
    anchors: Anchors | None = None  # of the suite, where it has its own
    suite_protocol: str = ""
    length: int | None = None  # env steps asked for, the last time that the run was given a length
    commit: str = ""
    packages: tuple[str, ...] = ()  # each with its version
    hardware: str = ""
    measure: str = "return"  # what success is measured by: "return", or "success", a number of the env's info
    rule: str = ""  # how a number of the info is one of the episode

    def title(self) -> str:
        """One line for a plot: suite, method and seed, as far as they are known."""
        seed = None if self.seed is None else f"seed {self.seed}"
        return ", ".join(part for part in (self.suite or self.experiment, self.method, seed) if part)

    def names_for(self, num_tasks: int) -> list[str]:
        """A name for each of so many tasks."""
        return [self.task_names[m] if m < len(self.task_names) else f"task {m}" for m in range(num_tasks)]


def read_run_info(run: Path | str) -> RunInfo:
    """Read ``run.json``; without one, the folder's name is the experiment and the rest is unknown."""
    path = Path(run) / RUN_FILE
    data = read_json(path)
    try:
        return _run_info(data, Path(run).resolve().name)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{path}: not what a run was: {type(error).__name__}: {error}") from None


def _run_info(data: dict[str, Any], folder: str) -> RunInfo:
    seed, success, version = data.get("seed"), data.get("success"), data.get("suite_version")
    solved = data.get("solved_return") if success is None else success["solved"]
    lengths = data.get("total_env_steps") or [None]
    return RunInfo(
        experiment=str(data.get("experiment") or folder),
        seed=None if seed is None else int(seed),
        suite=str(data.get("suite") or ""),
        method=str(data.get("method") or ""),
        task_names=tuple(str(name) for name in data.get("task_names") or ()),
        solved=None if solved is None else float(solved),
        suite_version=None if version is None else int(version),
        anchors=_anchors(data.get("anchors")),
        suite_protocol=str(data.get("suite_protocol") or ""),
        length=None if lengths[-1] is None else int(lengths[-1]),
        commit=str(data.get("commit") or ""),
        packages=tuple(f"{name} {found}" for name, found in _items(data.get("packages"), python=data.get("python"))),
        hardware=", ".join(f"{name} {found}" for name, found in _items(data.get("hardware"))),
        measure="return" if success is None else "success",
        rule="" if success is None else RULES[success["reduce"]].format(success["info"]),
    )


def _anchors(given: Any) -> Anchors | None:
    """Of a run's file; None for a suite without, and for runs of before."""
    if given is None:
        return None
    low, high = (tuple(map(float, given[name])) for name in ("low", "high"))
    if len(low) != len(high):
        raise ValueError(f"anchors of {len(low)} and {len(high)} tasks")
    return Anchors(low, high)


def _items(mapping: Any, **more: Any) -> list[tuple[str, Any]]:
    """What is known in a mapping of a run's file."""
    known = {**more, **(mapping if isinstance(mapping, dict) else {})}
    return [(str(name), value) for name, value in known.items() if value is not None]


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file, empty if there is no such file."""
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} does not hold a JSON object")
    return data
