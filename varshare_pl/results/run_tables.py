"""All that the plots need of a run: its two tables and what it was."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from varshare_pl.errors import ConfigError
from varshare_pl.results.files import (
    DIAGNOSTICS,
    HEARTBEAT,
    Diagnostics,
    no_diagnostics,
    read_diagnostics,
    read_heartbeat,
)
from varshare_pl.results.info import RunInfo, read_run_info

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RunTables:
    """A run's tables and what it was."""

    beats: dict[str, Array]  # each column (R,); there is one of env_steps
    details: Diagnostics
    info: RunInfo

    @property
    def num_tasks(self) -> int:
        columns = (re.fullmatch(r"(?:train|eval)/return_task_(\d+)", name) for name in self.beats)
        return max((int(column[1]) + 1 for column in columns if column), default=0)

    @property
    def names(self) -> list[str]:
        return self.info.names_for(self.num_tasks)

    def column(self, name: str) -> Array:
        """A column of the heartbeat, NaN where it is missing or not finite."""
        values = self.beats.get(name, np.full(len(self.beats["env_steps"]), np.nan))
        return np.where(np.isfinite(values), values, np.nan)

    def per_task(self, name: str) -> Array:
        """(R, M): the columns ``name_0`` …"""
        columns = [self.column(f"{name}_{m}") for m in range(self.num_tasks)]
        return np.stack(columns, axis=1) if columns else np.zeros((len(self.beats["env_steps"]), 0))

    def measured(self, kind: str) -> Array:
        """(R, M): what success is measured by, of training (``train``) or of evaluations (``eval``)."""
        return self.per_task(f"{kind}/{self.info.measure}_task")


def read_tables(run: Path | str, started: bool = False) -> RunTables:
    """Read a run's files; one without details still has its returns.

    Args:
        run: Its folder.
        started: Whether it may just have started, and have no heartbeat yet.

    Raises:
        ConfigError: if a file is spoilt, or has rows twice or out of order.
    """
    run = Path(run)
    empty = started and not _has_header(run / HEARTBEAT)
    beats = {"env_steps": np.zeros(0)} if empty else read_heartbeat(run)
    details = read_diagnostics(run) if _has_header(run / DIAGNOSTICS) else no_diagnostics()
    _check_heartbeat(run / HEARTBEAT, beats)
    _check_details(run / DIAGNOSTICS, details)
    return RunTables(beats, details, read_run_info(run))


def _has_header(path: Path) -> bool:
    """Whether a table has come to have a header; a run that has just started may have none yet."""
    try:
        with path.open("rb") as table:
            return table.readline().endswith(b"\n")
    except FileNotFoundError:
        return False


def _check_heartbeat(path: Path, beats: dict[str, Array]) -> None:
    steps, seconds = beats["env_steps"], beats.get("wall_time_s", np.zeros(0))
    if not (np.isfinite(steps).all() and (steps >= 0).all() and (np.diff(steps) > 0).all()):
        raise ConfigError(f"{path}: its env_steps do not rise from row to row")
    if (np.diff(seconds[np.isfinite(seconds)]) < 0).any():
        raise ConfigError(f"{path}: its wall_time_s falls from one row to the next")


def _check_details(path: Path, details: Diagnostics) -> None:
    """A detail that is there twice would count twice in a sum over layers."""
    if (np.diff(details.env_steps) < 0).any():
        raise ConfigError(f"{path}: its env_steps fall from one row to the next")
    keys = (details.env_steps, details.metric, details.network, details.layer, details.task)
    seen = set()
    for key in zip(*(column.tolist() for column in keys), strict=True):
        if key in seen:
            raise ConfigError(f"{path}: {key[1]} at {key[0]} env steps is there twice")
        seen.add(key)
