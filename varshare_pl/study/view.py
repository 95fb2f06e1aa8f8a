"""How a study goes: a table that is drawn again and again in a terminal, a line per change elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, Protocol, TextIO

from varshare_pl.results.table import clock, text_table
from varshare_pl.study.runs import Progress, Run, State

SHOWN_FIRST = (State.RUNNING, State.FAILED, State.LOCKED, State.INTERRUPTED, State.WAITING, State.FINISHED)


class Row(NamedTuple):
    """What the view knows of a run."""

    run: Run
    state: State
    progress: Progress
    message: str = ""


class View(Protocol):
    """Shows the runs of a study to a person."""

    def show(self, rows: Sequence[Row]) -> None:
        """How far all are; called about once a second."""
        ...

    def change(self, row: Row, rows: Sequence[Row]) -> None:
        """A run has another state."""
        ...

    def say(self, text: str) -> None:
        """A line of text."""
        ...


def make_view(out: TextIO | None = None) -> View:
    """The view for a stream; standard output by default."""
    out = out or sys.stdout
    return TableView(out) if out.isatty() else LineView(out)


class LineView:
    """A line for each change of a run's state."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def show(self, rows: Sequence[Row]) -> None:
        """Nothing: the heartbeat of each run holds the rest."""

    def change(self, row: Row, rows: Sequence[Row]) -> None:
        finished = sum(one.state is State.FINISHED for one in rows)
        parts = [f"[{finished}/{len(rows)}]", f"{row.state:<11}", row.run.name]
        if row.progress.env_steps:
            parts.append(f"at {row.progress.env_steps:,} env steps")
        if row.progress.mean is not None:
            parts.append(f"{row.progress.measure} {_number(row.progress)}")
        print(" ".join(parts) + (f": {row.message}" if row.message else ""), file=self._out, flush=True)

    def say(self, text: str) -> None:
        print(text, file=self._out, flush=True)


class TableView:
    """A table of the runs that matter most now, as many as the terminal has room for, and a line about all."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._drawn = 0  # lines on the screen
        self._begin: tuple[float, int] | None = None  # time and env steps of the first table

    def show(self, rows: Sequence[Row]) -> None:
        width, height = shutil.get_terminal_size()
        lines = [*table(rows, max(height - 6, 2), self._time_left(rows)), states(rows)]
        lines = [line[: width - 1] for line in lines]
        up = f"\x1b[{self._drawn}F" if self._drawn else ""
        self._out.write(f"{up}\x1b[J" + "\n".join(lines) + "\n")
        self._out.flush()
        self._drawn = len(lines)

    def change(self, row: Row, rows: Sequence[Row]) -> None:
        if row.state is State.FAILED:
            self.say(f"failed: {row.run.name}: {row.message}")
        self.show(rows)

    def say(self, text: str) -> None:
        if self._drawn:
            self._out.write(f"\x1b[{self._drawn}F\x1b[J")
        print(text, file=self._out, flush=True)
        self._drawn = 0

    def _time_left(self, rows: Sequence[Row]) -> float | None:
        """Seconds to the end of all at the speed since the first table."""
        now, (done, whole) = time.monotonic(), env_steps(rows)
        if self._begin is None:
            self._begin = now, done
        seconds, steps = now - self._begin[0], done - self._begin[1]
        return seconds / steps * (whole - done) if steps > 0 else None


def table(rows: Sequence[Row], most: int, time_left: float | None) -> list[str]:
    """The runs as a table, so many at most: those that run first, then the failed ones; and all of them together."""
    shown = sorted(rows, key=lambda row: SHOWN_FIRST.index(row.state))[:most]
    begun = dict.fromkeys(row.progress.measure for row in rows if row.progress.env_steps)
    measures = " / ".join(begun or ["return"])
    cells = [("run", "state", "env steps", measures, "time left")]
    for row in shown:
        left = row.progress.time_left(row.run.env_steps) if row.state is State.RUNNING else None
        cells.append(
            (
                row.run.name,
                str(row.state),
                f"{row.progress.env_steps:,} / {row.run.env_steps:,}",
                _number(row.progress),
                "" if left is None else clock(left),
            )
        )
    done, whole = env_steps(rows)
    hidden = len(rows) - len(shown)
    cells.append(
        (
            f"all {len(rows)} runs",
            f"({hidden} not shown)" if hidden else "",
            f"{done:,} / {whole:,}",
            "",
            "" if time_left is None else clock(time_left),
        )
    )
    return text_table(cells)


def _number(progress: Progress) -> str:
    """The mean of a run so far, empty where there is none."""
    return "" if progress.mean is None else f"{progress.mean:.{1 if progress.measure == 'return' else 2}f}"


def states(rows: Sequence[Row]) -> str:
    """How many runs are in each state."""
    counts = Counter(row.state for row in rows)
    return ", ".join(f"{counts[state]} {state}" for state in SHOWN_FIRST if counts[state])


def env_steps(rows: Sequence[Row]) -> tuple[int, int]:
    """Env steps that are done, and those of all runs together."""
    done = sum(row.run.env_steps if row.state is State.FINISHED else row.progress.env_steps for row in rows)
    return done, sum(row.run.env_steps for row in rows)
