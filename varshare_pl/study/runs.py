"""The runs of a study, and what their folders say about them."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from varshare_pl.results.files import HEARTBEAT, read_heartbeat
from varshare_pl.results.info import read_json, read_run_info
from varshare_pl.results.statistics import average
from varshare_pl.run_folder import CONFIG_FILE, LOCK_FILE, SUMMARY_FILE

TAIL_ROWS = 50  # of a heartbeat that are read
LONGEST_VALUE = 25  # characters with the comma; most have half of it


class State(StrEnum):
    """What is known of a run."""

    WAITING = "waiting"
    INTERRUPTED = "interrupted"  # has begun and can be resumed
    RUNNING = "running"
    LOCKED = "locked"  # another process is writing it
    FAILED = "failed"
    FINISHED = "finished"


@dataclass(frozen=True)
class Run:
    """One run: a variant, a seed, and where it lands.

    Attributes:
        name: Unique within the study; that of its log and of the record of its failure.
        folder: Its run folder.
        args: The whole command line of ``varshare`` that makes it, beginning with "fit".
        env_steps: Its length.
    """

    name: str
    folder: Path
    args: tuple[str, ...]
    env_steps: int

    @property
    def begun(self) -> bool:
        """Whether it wrote its config, so that it can be resumed."""
        return (self.folder / CONFIG_FILE).is_file()

    @property
    def finished(self) -> bool:
        """Whether it came to its end; a run that is stopped writes no summary, and a resumed one removes it."""
        return (self.folder / SUMMARY_FILE).is_file()

    @property
    def command(self) -> list[str]:
        """What starts it, or goes on with it."""
        return ["resume", str(self.folder)] if self.begun else list(self.args)


def locked(folder: Path) -> bool:
    """Whether some process holds the lock in a folder, of a run or of a study."""
    path = folder / LOCK_FILE
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def make_run(
    study: str, place: Sequence[str], options: Sequence[str], seed: int, logs_dir: Path, env_steps: int
) -> Run:
    """The run of a seed.

    Args:
        study: Name of the study.
        place: Folders below that of the study, the variant's first.
        options: Of ``varshare fit``.
        seed: The run's.
        logs_dir: Where experiments are.
        env_steps: The run's length, for the view.
    """
    experiment = "/".join([study, *place])
    args = ["fit", *options, "--experiment", experiment, "--seed_everything", str(seed)]
    if logs_dir != Path("logs"):
        args += ["--logs_dir", str(logs_dir)]
    named = [part for part in place if part != "tuning"]
    return Run("__".join([*named, f"seed_{seed}"]), logs_dir / experiment / f"seed_{seed}", tuple(args), env_steps)


@dataclass(frozen=True)
class Progress:
    """How far a run has come."""

    env_steps: int = 0
    mean: float | None = None  # over tasks, of training, of the last rollout that has one
    seconds: float = 0.0  # of training
    measure: str = "return"  # what the mean is of: "return", or "success" where a suite measures it

    def time_left(self, total: int) -> float | None:
        """Seconds to the end at the speed so far; None while that is not known."""
        if not self.env_steps or not self.seconds:
            return None
        return self.seconds / self.env_steps * max(total - self.env_steps, 0)


def read_progress(folder: Path) -> Progress:
    """The newest row of a run's heartbeat; only the end of the file is read, so that it may be asked often."""
    try:
        with (folder / HEARTBEAT).open("rb") as table:
            header = table.readline().decode().strip().split(",")
            begin = table.tell()
            tail = TAIL_ROWS * LONGEST_VALUE * len(header)
            table.seek(max(begin, table.seek(0, os.SEEK_END) - tail))
            lines = table.read().decode(errors="replace").split("\n")[:-1]  # without what is not written to its end
    except FileNotFoundError:
        return Progress()
    rows = [row for row in csv.reader(lines) if len(row) == len(header)]
    if not rows:
        return Progress()
    newest = dict(zip(header, rows[-1], strict=True))
    measure = "success" if "train/success_mean" in header else "return"
    means = [dict(zip(header, row, strict=True))[f"train/{measure}_mean"] for row in rows]
    mean = next((float(value) for value in reversed(means) if value), None)
    return Progress(int(newest["env_steps"]), mean, float(newest["wall_time_s"] or 0.0), measure)


def mean_over_run(run: Path, length: int) -> float:
    """The mean over a run's evaluations of the mean over tasks of success, or else of the return.

    The area under the learning curve, and not its end: at the end most trials of an easy suite are equal. A run that
    ended once it solved counts on with its last value to the length in env steps, or to solve late would be better.
    """
    beats = read_heartbeat(run)
    means = beats[f"eval/{read_run_info(run).measure}_mean"]
    values, end = means[np.isfinite(means)], beats["env_steps"][-1]
    solved = read_json(run / SUMMARY_FILE).get("final", {}).get("solved")
    missing = max(length - end, 0.0) / length if solved else 0.0
    return float((1 - missing) * average(values) + missing * values[-1])
