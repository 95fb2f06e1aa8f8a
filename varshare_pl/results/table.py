"""Tables and times as text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from varshare_pl.results.statistics import average
from varshare_pl.text import plain, text_width


def evaluation_table(
    returns: NDArray[np.float64],
    solved: Sequence[bool | None],
    names: Sequence[str],
    threshold: float | None,
    notes: Sequence[str] = (),
    success: NDArray[np.float64] | None = None,
) -> str:
    """A line per task and the mean over tasks.

    Args:
        returns: (M, E) returns of E episodes of each of M tasks.
        solved: Whether each task is solved; None where that has no meaning.
        names: Of the tasks.
        threshold: The mean success, or else return, from which on a task counts as solved.
        notes: Lines to stand below.
        success: (M, E) of the same episodes, NaN where it is not known; None where success is not measured apart.
    """
    measured = [] if success is None else [np.nanmean(success, axis=1)]
    rows = [["task", "", *("mean success" for _ in measured), "mean return", "min", "episodes", "solved"]]
    for task, (values, name, done) in enumerate(zip(returns, names, solved, strict=True)):
        shares = [f"{means[task]:.2f}" for means in measured]
        rows.append([str(task), name, *shares, *_numbers(values), _word(done)])
    overall = None if any(done is None for done in solved) else all(solved)
    rows.append(["mean", "", *(f"{average(means):.2f}" for means in measured), *_numbers(returns), _word(overall)])
    lines = text_table(rows)
    note = "deterministic evaluation: posterior mean, most likely action"
    if threshold is not None:
        note += f"; solved: mean {'return' if success is None else 'success'} >= {threshold:g}"
    return "\n".join([*lines, note, *notes])


def text_table(rows: Sequence[Sequence[str]], words: int = 2, total: bool = True) -> list[str]:
    """The lines of a table: a header and rows, with a rule between and one above the last row if that is the total.

    The first ``words`` columns are words, the others numbers.
    """
    rows = [[plain(cell) for cell in row] for row in rows]
    widths = [max(map(text_width, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        spaces = [" " * (columns - text_width(cell)) for cell, columns in zip(row, widths, strict=True)]
        left = map("".join, zip(row[:words], spaces[:words], strict=True))
        right = map("".join, zip(spaces[words:], row[words:], strict=True))
        lines.append("  ".join([*left, *right]).rstrip())
    rule = "-" * max(map(text_width, lines))
    return [lines[0], rule, *lines[1:-1], rule, lines[-1]] if total else [lines[0], rule, *lines[1:]]


def clock(seconds: float) -> str:
    """Seconds as minutes:seconds, or hours:minutes:seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _numbers(values: NDArray[np.float64]) -> tuple[str, str, str]:
    return f"{average(values):.1f}", f"{values.min():.1f}", str(values.size)


def _word(solved: bool | None) -> str:
    return "-" if solved is None else "yes" if solved else "no"
