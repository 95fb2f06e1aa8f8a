"""What runs a study's runs: processes here, or jobs or tasks on a cluster."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from varshare_pl.study.runs import Run

MANY = 1_000_000  # where a cluster's own queue decides how many runs go at once


@dataclass(frozen=True)
class Ended:
    """A run whose process has ended."""

    run: Run
    exit_code: int  # negative: the signal that ended it
    log: Path  # what it printed


class Executor(Protocol):
    """Starts runs and tells which have ended."""

    slots: int  # how many runs may be started at once

    def attach(self, runs: Sequence[Run]) -> list[Run]:
        """The runs that an earlier call of the study left running, and that this one watches from now on."""
        ...

    def start(self, runs: Sequence[Run]) -> None:
        """Start runs, or go on with them."""
        ...

    def wait(self, seconds: float) -> list[Ended]:
        """The runs that have ended; waits so long for one at most."""
        ...

    def stop(self, number: int) -> None:
        """Send a signal to all: the first stops them between two rollouts, a second one at once."""
        ...

    def close(self) -> None:
        """Let go of what it holds; called once at the end."""
        ...


def log_in_utf8() -> None:
    """Have this process write UTF-8 to the file that its output goes to, whatever the locale."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")
