"""What the panels of a plot are made of: a line per task, and the spread of details over tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from varshare_pl.results.files import Diagnostics
from varshare_pl.results.style import BLACK, GREY, Handle, task_colors

Array = NDArray[np.float64]
MANY_TASKS = 8  # beyond that many, tasks get no legend entries of their own


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
    handles: list[Handle] = []
    ends: list[Line2D] = []
    many = len(names) > MANY_TASKS
    for m, (name, color) in enumerate(zip(names, task_colors(len(names)), strict=True)):
        seen = np.isfinite(values[:, m])
        style: dict[str, Any] = {"marker": marker, "markersize": 2.5 if many else 4} if marker else dot(seen)
        (line,) = axes.plot(
            steps[seen], values[seen, m], color=color, linewidth=0.6 if many else 1.0, label=name, **style
        )
        if not many:
            handles.append(line)
        elif m in (0, len(names) - 1):
            ends.append(line)
    if many:
        handles = [Line2D([], [], color=line.get_color(), linewidth=2, label=line.get_label()) for line in ends]
        handles.insert(1, Line2D([], [], color="none", label="… dark to light …"))
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


def spread(rows: Diagnostics) -> tuple[Array, Array, Array, Array]:
    """Env steps, and at each of them the mean, lowest and highest of the rows' values."""
    rows = rows.take(np.isfinite(rows.value))
    steps, index = np.unique(rows.env_steps, return_inverse=True)
    mean = np.bincount(index, rows.value, len(steps)) / np.maximum(np.bincount(index, minlength=len(steps)), 1)
    low, high = np.full(len(steps), np.inf), np.full(len(steps), -np.inf)
    np.minimum.at(low, index, rows.value)
    np.maximum.at(high, index, rows.value)
    return steps.astype(np.float64), mean, low, high


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
