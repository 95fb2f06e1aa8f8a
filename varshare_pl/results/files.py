"""The two tables that a run writes, and their readers.

``heartbeat.csv`` has one row per rollout; ``diagnostics.csv`` has one row per value that belongs to a network, a layer
or a task. A killed run leaves at most one torn line at the end, which the readers drop; a resumed run cuts both back to
its checkpoint before it goes on, so no row is there twice.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from varshare_pl.errors import ConfigError

HEARTBEAT = "heartbeat.csv"
DIAGNOSTICS = "diagnostics.csv"
DIAGNOSTICS_COLUMNS = ("env_steps", "metric", "network", "layer", "task", "value")


@dataclass(frozen=True)
class Diagnostics:
    """The rows of ``diagnostics.csv`` as columns of equal length (R,), in the order in which they were written."""

    env_steps: NDArray[np.int64]
    metric: NDArray[np.str_]
    network: NDArray[np.str_]  # "" where the metric has no network
    layer: NDArray[np.str_]  # "" where it has no layer
    task: NDArray[np.int64]  # -1 where it has no task
    value: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.value)

    def where(
        self, metric: str | None = None, network: str | None = None, layer: str | None = None, task: int | None = None
    ) -> Diagnostics:
        """The rows that match every argument that is given."""
        rows = self
        wanted = {"metric": metric, "network": network, "layer": layer, "task": task}
        for name, value in wanted.items():
            if value is not None:
                rows = rows.take(getattr(rows, name) == value)
        return rows

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Diagnostics:
        """The rows of a mask or of an index."""
        return Diagnostics(
            self.env_steps[rows],
            self.metric[rows],
            self.network[rows],
            self.layer[rows],
            self.task[rows],
            self.value[rows],
        )

    def at_end_of(self, metric: str) -> Diagnostics:
        """All rows of the last env step at which there is a metric."""
        return self.take(self.env_steps == self.where(metric).env_steps.max(initial=-1))

    def layers(self) -> list[str]:
        """Layers present, first to last, the head at the end."""
        return sorted({str(name) for name in self.layer} - {""}, key=_layer_order)

    def tasks(self) -> list[int]:
        """Tasks present, ascending."""
        return [int(task) for task in np.unique(self.task) if task >= 0]


def read_heartbeat(run: Path | str) -> dict[str, NDArray[np.float64]]:
    """Each column of a run's ``heartbeat.csv`` as float64 of length R, NaN where a cell is empty."""
    path = Path(run) / HEARTBEAT
    lines = _whole_lines(path)
    header = next(lines, None)
    if header is None or header[0] != "env_steps":
        raise ConfigError(f"{path} has no header: it is not a heartbeat")
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise ConfigError(f"{path} has the column {twice[0]} twice")
    table = np.array([_numbers(path, row, len(header)) for row in lines], dtype=np.float64).reshape(-1, len(header))
    return {name: table[:, i].copy() for i, name in enumerate(header)}


def no_diagnostics() -> Diagnostics:
    """A table without rows."""
    text, whole = np.zeros(0, np.str_), np.zeros(0, np.int64)
    return Diagnostics(whole, text, text, text, whole, np.zeros(0, np.float64))


def read_diagnostics(run: Path | str) -> Diagnostics:
    """A run's ``diagnostics.csv``."""
    path = Path(run) / DIAGNOSTICS
    lines = _whole_lines(path)
    header = next(lines, None)
    if header != list(DIAGNOSTICS_COLUMNS):
        raise ConfigError(f"{path} does not have the columns {', '.join(DIAGNOSTICS_COLUMNS)}")
    rows = list(lines)
    if any(len(row) != len(DIAGNOSTICS_COLUMNS) for row in rows):
        raise ConfigError(f"{path} has a row without {len(DIAGNOSTICS_COLUMNS)} cells")
    steps, metric, network, layer, task, value = zip(*rows, strict=True) if rows else ((),) * 6
    try:
        return Diagnostics(
            np.array([int(cell) for cell in steps], dtype=np.int64),
            np.array(metric, dtype=np.str_),
            np.array(network, dtype=np.str_),
            np.array(layer, dtype=np.str_),
            np.array([int(cell) if cell else -1 for cell in task], dtype=np.int64),
            np.array(list(map(_number, value)), dtype=np.float64),
        )
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{path}: {error}") from None


def quoted(cell: str) -> str:
    """A cell of a CSV file, which the readers give back as it is.

    A line break becomes a space: each row is one line, so that what a killed run left of one can be cut off.
    """
    cell = cell.replace("\r", " ").replace("\n", " ")
    return f'"{cell.replace(chr(34), 2 * chr(34))}"' if set(cell) & set(',"') else cell


def _whole_lines(path: Path) -> Iterator[list[str]]:
    """The lines of a CSV file that were written to their end."""
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:  # what is no number is told below
            text = file.read()
    except FileNotFoundError:
        raise ConfigError(f"no {path.name} in {path.parent}: is this the folder of a run?") from None
    try:
        yield from csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
    except csv.Error as error:
        raise ConfigError(f"{path}: {error}") from None


def _numbers(path: Path, row: list[str], columns: int) -> list[float]:
    if len(row) != columns:
        raise ConfigError(f"{path} has a row of {len(row)} cells under {columns} columns")
    try:
        return [_number(cell) for cell in row]
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


def _number(cell: str) -> float:
    """A number as a run writes it, NaN for an empty cell; Python alone would take 1_000 for one."""
    if "_" in cell:
        raise ValueError(f"could not convert string to float: {cell!r}")
    return float(cell) if cell else math.nan


def _layer_order(name: str) -> tuple[bool, int, str]:
    number = name.rpartition("_")[2]
    return name == "head", int(number) if number.isdigit() else 0, name
