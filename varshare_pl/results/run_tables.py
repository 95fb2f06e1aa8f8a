"""All that the plots need of a run: its two tables and what it was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from varshare_pl.errors import ConfigError
from varshare_pl.results.files import Diagnostics, no_diagnostics, read_diagnostics, read_heartbeat
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
        return max(sum(c.startswith(f"{kind}/return_task_") for c in self.beats) for kind in ("train", "eval"))

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


def read_tables(run: Path | str) -> RunTables:
    """Read a run's files; one without details still has its returns and losses."""
    beats = read_heartbeat(run)
    try:
        details = read_diagnostics(run)
    except ConfigError:
        details = no_diagnostics()
    return RunTables(beats, details, read_run_info(run))
