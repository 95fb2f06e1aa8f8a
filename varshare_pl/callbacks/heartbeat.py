"""The heartbeat: what is known after each rollout, appended to the run's tables and flushed at once."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT

from varshare_pl.errors import ConfigError, writing
from varshare_pl.results.columns import WHOLE, heartbeat_columns
from varshare_pl.results.files import DIAGNOSTICS, DIAGNOSTICS_COLUMNS, HEARTBEAT, quoted
from varshare_pl.types import Detail, Record


class Heartbeat(Callback):
    """Append each rollout's record to ``heartbeat.csv`` and ``diagnostics.csv`` in the run's folder.

    The folder is the trainer's ``default_root_dir``. Tables that are there already are continued, so a resumed run
    keeps its history; what a killed run left of a line is cut off first.
    """

    def __init__(self) -> None:
        self._columns: list[str] = []
        self._heartbeat: IO[str] | None = None
        self._diagnostics: IO[str] | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        extras = ["cosine"] if getattr(pl_module, "cosine", None) is not None else []
        extras += ["success"] if getattr(getattr(pl_module, "spec", None), "success", False) else []
        self._columns = heartbeat_columns(int(pl_module.num_tasks), extras)  # type: ignore[arg-type]
        # A run that begins again from the start writes its row at 0 again.
        env_steps = int(pl_module.env_steps) or -1  # type: ignore[arg-type]
        self._heartbeat = open_table(folder / HEARTBEAT, self._columns, env_steps)
        self._diagnostics = open_table(folder / DIAGNOSTICS, DIAGNOSTICS_COLUMNS, env_steps)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        self._write(trainer, record_of(outputs))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        record = first_record_of(pl_module)
        if record is not None and trainer.is_global_zero:  # it takes the place of the row that has no evaluation yet
            for name in (HEARTBEAT, DIAGNOSTICS):
                cut_rows(Path(trainer.default_root_dir) / name, record.env_steps - 1)
        self._write(trainer, record)

    def _write(self, trainer: Trainer, record: Record | None) -> None:
        if record is None or self._heartbeat is None or self._diagnostics is None:
            return
        with writing(Path(trainer.default_root_dir) / HEARTBEAT):
            self._heartbeat.write(heartbeat_row(record, self._columns))
            self._heartbeat.flush()
        with writing(Path(trainer.default_root_dir) / DIAGNOSTICS):
            self._diagnostics.write(diagnostics_rows(record.env_steps, record.details))
            self._diagnostics.flush()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._close()

    def _close(self) -> None:
        for table in (self._heartbeat, self._diagnostics):
            if table is not None:
                with suppress(OSError):  # what a full disk did not take was told already
                    table.close()
        self._heartbeat = self._diagnostics = None


def record_of(outputs: STEP_OUTPUT) -> Record | None:
    """The record that ``training_step`` returned, if it returned one."""
    record = outputs.get("record") if isinstance(outputs, Mapping) else None
    return record if isinstance(record, Record) else None


def first_record_of(pl_module: LightningModule) -> Record | None:
    """The record of an evaluation before the first rollout, if the module has one."""
    ask: Callable[[], Record | None] = getattr(pl_module, "first_record", lambda: None)
    return ask()


def heartbeat_row(record: Record, columns: list[str]) -> str:
    """One line of ``heartbeat.csv``; a metric that is absent or NaN is an empty cell."""
    values = {**record.metrics, "env_steps": record.env_steps}
    return ",".join(cell(values.get(name), name in WHOLE) for name in columns) + "\n"


def diagnostics_rows(env_steps: int, details: Iterable[Detail]) -> str:
    """Lines of ``diagnostics.csv``; a detail without a value has none."""
    return "".join(
        f"{env_steps},{','.join(map(quoted, (d.metric, d.network, d.layer)))},{_task(d)},{d.value:.9g}\n"
        for d in details
        if not math.isnan(d.value)
    )


def _task(detail: Detail) -> str:
    return "" if detail.task is None else str(detail.task)


def cell(value: float | None, integer: bool = False) -> str:
    """A number as text: whole counts in full, all else to nine digits, which give back any float32."""
    if value is None or math.isnan(value):
        return ""
    return f"{int(value)}" if integer and math.isfinite(value) else f"{value:.9g}"


def open_table(path: Path, columns: Iterable[str], env_steps: int) -> IO[str]:
    """Open a CSV file to append rows to it: a new one gets its header, an old one must have the same.

    Rows of an old one beyond env_steps, the checkpoint's, are cut off, so that a resumed run has no row twice.
    """
    header = ",".join(columns)
    if path.exists():
        with path.open(encoding="utf-8") as table:
            found = table.readline()
        if not found.endswith("\n") and header.startswith(found):
            os.truncate(path, 0)  # a kill left a part of the header
        elif found.rstrip("\r\n") != header:
            raise ConfigError(f"{path} has other columns than this run: give the run a folder of its own")
        else:
            cut_rows(path, env_steps)
    table = path.open("a", encoding="utf-8", newline="")
    if table.tell() == 0:
        table.write(header + "\n")
        table.flush()
    return table


def cut_rows(path: Path, env_steps: int) -> None:
    """Cut off the rows, in order of their first column, that lie beyond env_steps, and what a kill left of a line."""
    with path.open("rb+") as table:
        table.readline()
        end = table.tell()
        for line in iter(table.readline, b""):
            if not line.endswith(b"\n") or int(line.split(b",", 1)[0]) > env_steps:
                break
            end = table.tell()
        table.truncate(end)
