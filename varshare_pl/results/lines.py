"""What the panels of a plot are made of: a line per task, details by task or their spread, and the scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varshare_pl.results.colors import BLACK, GREY, marked, task_styles
from varshare_pl.results.drawing import Axes, Line2D, Patch
from varshare_pl.results.files import Diagnostics
from varshare_pl.results.style import Handle

Array = NDArray[np.float64]
MANY_TASKS = 8  # beyond that many, tasks get no legend entries of their own
NETWORKS = ("actor", "critic")


def draw_tasks(
    axes: Axes,
    steps: Array,
    values: Array,
    names: Sequence[str],
    mean: Array,
    marker: str = "",
    floor: float | None = None,
) -> list[Handle]:
    """A line per task and one for their mean; gaps are bridged. Many tasks share one colour ramp and a band."""
    lines: list[Line2D] = []
    many = len(names) > MANY_TASKS
    for m, (name, look) in enumerate(zip(names, task_styles(len(names)), strict=True)):
        seen = np.isfinite(values[:, m])
        points = int(seen.sum())
        style: dict[str, Any] = {"marker": look.marker or marker or "o", "markersize": 2.5 if many else 4}
        style["markevery"] = range(points) if marker or points == 1 else marked(look, points)
        style |= {"color": look.color, "linestyle": look.dashes, "linewidth": 0.6 if many else 1.0}
        lines += axes.plot(steps[seen], values[seen, m], label=name, **style)
    handles = tasks_legend(lines)
    if many:
        known, low, high = _range(steps, values)
        axes.fill_between(known, low, high, color=GREY, alpha=0.25, linewidth=0, zorder=1)
        handles.append(Patch(color=GREY, alpha=0.4, linewidth=0, label="lowest to highest"))
    if len(names) > 1:
        seen = np.isfinite(mean)
        style = {"marker": marker, "markersize": 6} if marker else dot(seen)
        # above many tasks, below few: where all tasks agree, their lines remain visible on top of it
        width, order = (2.0, 3.0) if many else (2.8, 1.9)
        handles += axes.plot(steps[seen], mean[seen], color=BLACK, linewidth=width, label="mean", zorder=order, **style)
    if floor is not None:
        axes.set_ylim(bottom=floor)
    return handles


def tasks_legend(lines: Sequence[Line2D]) -> list[Handle]:
    """The legend entries of the tasks' lines; of many tasks the first and the last only."""
    if len(lines) <= MANY_TASKS:
        return list(lines)
    first, last = (
        Line2D([], [], color=line.get_color(), linewidth=2, label=line.get_label()) for line in (lines[0], lines[-1])
    )
    return [first, Line2D([], [], color="none", label="… dark to light …"), last]


def networks_of(details: Diagnostics, metric: str) -> list[str]:
    """The networks that have values of a metric."""
    present = set(details.where(metric).network.tolist())
    return [name for name in NETWORKS if name in present]


def by_task(rows: Diagnostics, num_tasks: int, total: bool = False) -> tuple[Array, Array]:
    """Env steps (R,) and the mean or the sum of the rows' values for each task (R, M)."""
    rows = rows.take((rows.task >= 0) & (rows.task < num_tasks))
    steps, index = np.unique(rows.env_steps, return_inverse=True)
    cells = index * num_tasks + rows.task
    size = len(steps) * num_tasks
    count = np.bincount(cells, minlength=size)
    sums = np.bincount(cells, rows.value, size)
    whole = count == (count.max(initial=0) if total else np.maximum(count, 1))  # a sum that lacks a part is none
    values = np.where(whole & (count > 0), sums if total else sums / np.maximum(count, 1), np.nan)
    return steps.astype(np.float64), values.reshape(len(steps), num_tasks)


def spread(rows: Diagnostics) -> tuple[Array, Array, Array, Array]:
    """Env steps, and at each of them the mean, lowest and highest of the rows' values."""
    rows = rows.take(np.isfinite(rows.value))
    steps, index = np.unique(rows.env_steps, return_inverse=True)
    mean = np.bincount(index, rows.value, len(steps)) / np.maximum(np.bincount(index, minlength=len(steps)), 1)
    low, high = np.full(len(steps), np.inf), np.full(len(steps), -np.inf)
    np.minimum.at(low, index, rows.value)
    np.maximum.at(high, index, rows.value)
    return steps.astype(np.float64), np.clip(mean, low, high), low, high


def solved_line(axes: Axes, solved_return: float) -> Line2D:
    """A line at the return from which on a task counts as solved."""
    label = f"solved ({solved_return:g})"
    return axes.axhline(solved_return, color=GREY, linewidth=1.2, linestyle=(0, (4, 2)), label=label)


def return_limits(values: Array, solved_return: float | None) -> tuple[float, float]:
    """A scale for returns: holds all values and the line of solved, and 0 where that is near."""
    low, high = float(np.nanmin(values, initial=np.inf)), float(np.nanmax(values, initial=-np.inf))
    if solved_return is not None:
        low, high = min(low, solved_return), max(high, solved_return)
    if not low <= high:  # no values at all
        low, high = 0.0, 1.0
    if low == high:
        low, high = low - 1.0, high + 1.0
    low = 0.0 if 0 < low < 0.5 * high else low
    return low - 0.04 * (high - low), high + 0.06 * (high - low)


def ratio_limits(values: Array) -> tuple[float, float]:
    """A scale for sharing ratios that ends at 1 and starts at 0, or nearer to 1 where all values allow it."""
    lowest = np.nanmin(values, initial=1.0)
    floor = next((floor for floor in (0.9, 0.5) if lowest >= floor + 0.1 * (1 - floor)), 0.0)
    return floor, 1.0 + 0.03 * (1.0 - floor)


def set_ratio_scale(axes: Axes, low: float, high: float) -> None:
    """Fix the scale, with a tick at its foot so that one that does not start at 0 shows it."""
    axes.set_ylim(low, high)
    axes.set_yticks(np.linspace(low, 1.0, 6))


def dot(points: NDArray[np.bool_] | Array) -> dict[str, Any]:
    """A marker for a line of a single point, which would be invisible."""
    number = int(points.sum()) if points.dtype == np.bool_ else len(points)
    return {"marker": "o"} if number == 1 else {}


def _range(steps: Array, values: Array) -> tuple[Array, Array, Array]:
    """Env steps at which some task has a value, and the lowest and highest of the tasks' lines there."""
    rows = np.isfinite(values).any(axis=1)
    steps, values = steps[rows], values[rows]
    bridged = np.full_like(values, np.nan)
    for m in range(values.shape[1]):
        seen = np.isfinite(values[:, m])
        if seen.any():
            bridged[:, m] = np.interp(steps, steps[seen], values[seen, m], left=np.nan, right=np.nan)
    return steps, np.nanmin(bridged, axis=1, initial=np.inf), np.nanmax(bridged, axis=1, initial=-np.inf)
