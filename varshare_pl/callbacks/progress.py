"""One line to watch while a run trains."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from tqdm import tqdm

from varshare_pl.callbacks.heartbeat import record_of
from varshare_pl.results.table import clock
from varshare_pl.types import Record

LINE_WIDTH = 100  # where there is no terminal
MAX_BAR = 30
MIN_BAR = 4
# full names, percentage, which of steps, speed, mean, worst task, sharing ratio, time, and where the mean and the worst
# task are of success the mean return: from wide to narrow
LAYOUTS: tuple[tuple[bool, bool, tuple[int, ...]], ...] = (
    (True, True, (0, 1, 2, 3, 6, 4, 5)),
    (False, True, (0, 1, 2, 3, 6, 4, 5)),
    (False, False, (0, 1, 2, 3, 4, 5)),
    (False, True, (0, 2, 3, 4, 5)),
    (False, True, (0, 2, 3, 5)),
    (False, True, (0, 2)),
    (False, True, (0,)),
)


class ProgressLine(Callback):
    """Env steps, speed, mean and worst return, sharing ratio and time left, on one line of stderr.

    Where a suite measures success, mean and worst are of success, and the mean return stands beside. It prints nothing
    where stderr is not a terminal. A value stays on the line until a newer one is known.

    Args:
        enabled: Show the line at all.

    Attributes:
        lines: Where stderr is not a terminal, as in a notebook, print a line at every tenth of the run to stdout.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self.lines = False
        self._line: _Line | _Lines | None = None
        self._show = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show = self.enabled and trainer.is_global_zero and (self.lines or sys.stderr.isatty())

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        record = record_of(outputs)
        if not self._show or record is None:
            return
        if self._line is None:
            datamodule = getattr(trainer, "datamodule", None)
            total = getattr(datamodule, "total_env_steps", None)
            # made with the first record, which tells where a resumed run goes on
            self._line = _Line(total, record) if sys.stderr.isatty() else _Lines(total, record)
            return
        self._line.show(record)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._close()

    def _close(self) -> None:
        if self._line is not None:
            self._line.close()
        self._line = None
        self._show = False


class _Line(tqdm):  # type: ignore[misc]
    """A tqdm bar that writes its own text; tqdm limits how often, measures the speed and handles the terminal."""

    monitor_interval = 0  # no watching thread

    def __init__(self, total: int | None, first: Record) -> None:
        self.known = known_of(first)
        super().__init__(
            total=total,
            initial=first.env_steps,
            file=sys.stderr,
            mininterval=0.1,
            miniters=1,
            smoothing=0.1,
            dynamic_ncols=True,
            leave=True,
        )

    def show(self, record: Record) -> None:
        self.known |= known_of(record)
        self.update(record.env_steps - self.n)

    def __str__(self) -> str:
        state = self.format_dict
        elapsed = state["elapsed"]
        average = (self.n - self.initial) / elapsed if elapsed else 0.0
        speed = state["rate"] or average or self.known.get("sps", 0.0)
        return progress_text(
            state["ncols"] or 80, self.n, self.total, speed, elapsed, self.known, ascii_only=bool(self.ascii)
        )


class _Lines:
    """A line of its own at every tenth of the run, which any output keeps."""

    def __init__(self, total: int | None, first: Record) -> None:
        self.known = known_of(first)
        self._total, self._first = total, first.env_steps
        self._started = time.perf_counter()
        self._tenths = self._passed(first)

    def show(self, record: Record) -> None:
        self.known |= known_of(record)
        if self._passed(record) > self._tenths:
            self._tenths = self._passed(record)
            elapsed = time.perf_counter() - self._started
            speed = (record.env_steps - self._first) / elapsed if elapsed else 0.0
            print(progress_text(LINE_WIDTH, record.env_steps, self._total, speed, elapsed, self.known), flush=True)

    def close(self) -> None:
        """Nothing: every line is whole."""

    def _passed(self, record: Record) -> int:
        return 10 * record.env_steps // self._total if self._total else 0


def known_of(record: Record) -> dict[str, float]:
    """The values that a record has."""
    return {name: value for name, value in record.metrics.items() if not math.isnan(value)}


def progress_text(
    width: int,
    steps: int,
    total: int | None,
    speed: float,
    elapsed: float,
    known: dict[str, float],
    ascii_only: bool = False,
) -> str:
    """The line at a given width: first names are shortened, then the percentage goes, then the least important."""
    for wide, percent, keep in LAYOUTS:
        parts = _parts(steps, total, speed, elapsed, known, wide)
        text = "  ".join(parts[i] for i in keep if parts[i])
        room = width - 1 - len(text)
        if total is None and room >= 0:
            return text
        head = f"{int(100 * min(steps / total, 1.0)):3d}% " if total and percent else ""
        room -= len(head) + 2
        if total and room >= MIN_BAR:
            return f"{head}{_bar(steps / total, min(MAX_BAR, room), ascii_only)}  {text}"
    return text[: width - 1]


def _parts(
    steps: int, total: int | None, speed: float, elapsed: float, known: dict[str, float], wide: bool
) -> list[str]:
    """Steps, speed, mean, worst task, sharing ratio, time, return beside success; empty where not known.

    Numbers are padded, so that the line does not jump about.
    """
    measure = "success" if any(name.startswith("train/success_task_") for name in known) else "return"
    tasks = {name: value for name, value in known.items() if name.startswith(f"train/{measure}_task_")}
    mean, beside = known.get(f"train/{measure}_mean"), known.get("train/return_mean")
    parts = [
        f"{short(steps):>5}" + (f"/{short(total)}" if total else "") + (" steps" if wide or not total else ""),
        f"{short(speed):>5}/s" if speed else "",
        f"{measure} {number(mean):>4}" if mean is not None else "",
        "",
        "",
        "",
        f"return {number(beside):>4}" if beside is not None and measure == "success" else "",
    ]
    if "sharing/ratio" in known:
        parts[4] = f"sharing {known['sharing/ratio']:.3f}" if wide else f"share {known['sharing/ratio']:.2f}"
    if len(tasks) > 1:
        worst = min(tasks, key=tasks.__getitem__)
        parts[3] = f"worst {number(tasks[worst]):>4}" + (f" (task {worst.rpartition('_')[2]})" if wide else "")
    if total and steps >= total:
        parts[5] = f"{clock(elapsed)} done"
    elif total and speed:
        parts[5] = f"{clock((total - steps) / speed)} left"
    return parts


def _bar(share: float, width: int, ascii_only: bool) -> str:
    full, empty = ("#", "-") if ascii_only else ("━", "╌")
    done = round(min(share, 1.0) * width)
    return full * done + empty * (width - done)


def short(count: float) -> str:
    """A count in at most five characters, such as 950, 12.8k or 1.25M."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * size:
            digits = 2 if count < 9.995 * size else 1 if count < 99.95 * size else 0
            return f"{count / size:.{digits}f}{suffix}"
    return f"{count:.0f}"


def number(value: float) -> str:
    """A return in few characters."""
    return f"{value:.0f}" if 100 <= abs(value) < 1e6 else f"{value:.3g}"
