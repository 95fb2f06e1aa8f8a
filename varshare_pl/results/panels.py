"""The kinds of panels of a report: lines with bands, intervals of methods, profiles, pairs of methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varshare_pl.results.colors import BLACK, GREY, Style, marked
from varshare_pl.results.curves import Band
from varshare_pl.results.drawing import Axes, Line2D
from varshare_pl.results.lines import solved_line
from varshare_pl.results.scores import THRESHOLDS, Difference, Estimate, Solving
from varshare_pl.results.statistics import mean_and_std
from varshare_pl.results.style import ENV_STEPS, LONGEST_LABEL, Handle, Panel
from varshare_pl.text import shortened

Array = NDArray[np.float64]
Line = tuple[str, Style, Band]
ALPHA = 0.14
SETTLED, BEYOND = 0.05, 1.15  # of the lines' range; of where the last one has settled


def band_panel(
    title: str,
    ylabel: str,
    lines: Sequence[Line],
    centre: str,
    legend: str = "Method",
    xlabel: str = ENV_STEPS,
    solved: float | None = None,
    limits: tuple[float, float] | None = None,
) -> Panel | None:
    """A line with its band for each label: ``mean`` ± std, or ``iqm`` with its interval. None without lines.

    ``solved`` is the return from which on a task counts as solved, drawn as a line; ``limits`` are those of y.
    """

    def draw(axes: Axes) -> list[Handle]:
        alpha = ALPHA if len(lines) <= 4 else 0.5 * ALPHA
        handles: list[Handle] = [_line(axes, label, style, band, centre, alpha) for label, style, band in lines]
        if solved is not None:
            handles.append(solved_line(axes, solved))
        if limits is not None:
            axes.set_ylim(*limits)
        return handles

    if not lines:
        return None
    end, last = axis_end([(band.x, _middle(band, centre)) for _, _, band in lines])
    return Panel(title, ylabel, draw, legend, xlabel, end=end, last=last)


def _middle(band: Band, centre: str) -> Array:
    return band.mean if centre == "mean" else band.iqm


def axis_end(lines: Sequence[tuple[Array, Array]]) -> tuple[float, float]:
    """Where x may end, and the last x: lines (P,), (P,) that have settled early would fill most of it.

    A line has settled from where on it stays as near to its last value as a twentieth of the range of all. If half
    of the lines have within a third of x, it may end a little beyond where the last of them has.
    """
    last = max(float(x[-1]) for x, _ in lines)
    every = np.concatenate([y for _, y in lines])
    room = SETTLED * (every.max() - every.min())
    settled = []
    for x, y in lines:
        away = np.flatnonzero(np.abs(y - y[-1]) > room)
        settled.append(float(x[away[-1] + 1]) if len(away) else float(x[0]))
    early = np.median(settled) <= last / 3
    return (min(last, BEYOND * max(settled)) if early else last), last


def _line(axes: Axes, label: str, style: Style, band: Band, centre: str, alpha: float) -> Line2D:
    """Thin where fewer runs have a value than elsewhere, broken where their number changes."""
    color, dashes, middle = style.color, style.dashes, _middle(band, centre)
    low, high = (band.mean - band.std, band.mean + band.std) if centre == "mean" else (band.low, band.high)
    ends = [0, *(np.flatnonzero(np.diff(band.runs)) + 1).tolist(), len(band.x)]
    for start, end in pairwise(ends):
        part = slice(start, end)
        full = band.runs[start] == band.runs.max()
        marks = [i - start for i in marked(style, len(band.x)) if start <= i < end]
        look: dict[str, Any] = {"marker": style.marker or "o", "markersize": 4.0}
        look["markevery"] = marks if end - start > 1 else None
        axes.plot(band.x[part], middle[part], color=color, linestyle=dashes, linewidth=1.5 if full else 0.7, **look)
        if np.isfinite(low[part]).all() and end - start > 1:
            axes.fill_between(band.x[part], low[part], high[part], color=color, alpha=alpha, linewidth=0)
    return Line2D(
        [], [], color=color, linestyle=dashes, marker=style.marker, markersize=4.0, linewidth=1.4, label=label
    )


def dot_panel(
    title: str,
    unit: str,
    methods: Sequence[str],
    styles: Mapping[str, Style],
    estimates: Mapping[str, Estimate],
    dots: Mapping[str, Array],
) -> Panel:
    """A row for each method: IQM with its interval, and a dot for each run."""

    def draw(axes: Axes) -> list[Handle]:
        for y, method in enumerate(methods):
            color = styles[method].color
            if method in estimates:
                _interval(axes, y, *estimates[method][2:5], color)
            _dots(axes, dots.get(method, np.zeros(0)), y + 0.28, color)
        _rows(axes, [styles[method].name for method in methods])
        axes.margins(x=0.06)
        if unit == "score":
            low, high = axes.dataLim.intervalx
            axes.set_xlim(min(0.0, low) - 0.03, max(1.0, high) + 0.03)
        return []

    return Panel(title, "", draw, xlabel=unit, from_zero=False, shared_rows=True)


def _dots(axes: Axes, values: Array, y: float | Array, color: str) -> None:
    """A ring for each run, so that those that lie on each other show."""
    axes.plot(values, np.full(len(values), y), "o", color=color, markersize=3.2, mfc="none", mew=0.7)


def seed_panel(
    title: str,
    xlabel: str,
    rows: Sequence[str],
    lines: Sequence[tuple[str, Style, Sequence[Array]]],
    expected: Array | None = None,
) -> Panel:
    """A row for each name with a dot for each seed of each label, and a line through the means of a label.

    Args:
        title: Of the panel.
        xlabel: What the values are.
        rows: A name for each row.
        lines: Labels with their looks and, for each row, the values of the seeds.
        expected: (num_rows,) what is right, drawn as crosses; NaN where it is not known.
    """

    def draw(axes: Axes) -> list[Handle]:
        places = np.arange(len(rows))
        handles: list[Handle] = []
        for label, (color, dashes, *_), values in lines:
            for y, dots in enumerate(values):
                _dots(axes, dots, y, color)
            means = [mean_and_std(dots[:, np.newaxis])[0].item() for dots in values]
            handles += axes.plot(means, places, color=color, linestyle=dashes, linewidth=1.4, label=label)
        if expected is not None and np.isfinite(expected).any():
            look: dict[str, Any] = {"marker": "x", "markersize": 7, "linestyle": (0, (1.5, 1.2)), "linewidth": 1.2}
            handles += axes.plot(expected, places, color=BLACK, label="expected of the head", **look)
        _rows(axes, rows)
        return handles

    return Panel(title, "", draw, "Layer", xlabel, shared_rows=True)


def _interval(axes: Axes, y: float, centre: float, low: float, high: float, color: str) -> None:
    axes.plot([low, high], [y, y], color=color, linewidth=1.6, solid_capstyle="butt")
    axes.plot([centre], [y], "D", color=color, markersize=4.5)


def _rows(axes: Axes, names: Sequence[str]) -> None:
    """Names down the side, the first on top."""
    axes.set_yticks(range(len(names)), labels=[shortened(name, LONGEST_LABEL) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)


def solving_panel(title: str, solving: Mapping[str, Solving], styles: Mapping[str, Style], budget: float) -> Panel:
    """Env steps to solve of each run; those that ended unsolved stand at the right, as open triangles."""

    def draw(axes: Axes) -> list[Handle]:
        for y, (method, found) in enumerate(solving.items()):
            color = styles[method].color
            solved = np.sort(found.steps[np.isfinite(found.steps)])
            _dots(axes, solved, _apart(len(solved), y), color)
            unsolved = len(found.steps) - len(solved)
            places = _apart(unsolved, y)
            axes.plot(np.full(unsolved, 1.04 * budget), places, ">", color=color, mfc="white", markersize=5)
            if np.isfinite(found.median):
                axes.vlines(found.median, y - 0.35, y + 0.35, color=color, linewidth=2)
        axes.axvline(budget, color=GREY, linewidth=1, linestyle=(0, (4, 2)))
        axes.dataLim.update_from_data_x([0.0, 1.08 * budget], ignore=False)
        counts = [f"{styles[method].name} ({found.solved}/{len(found.steps)})" for method, found in solving.items()]
        _rows(axes, counts)
        return []

    return Panel(title, "", draw)


def _apart(count: int, y: float) -> Array:
    """Places for so many dots in a row, one above the other."""
    return y + (np.linspace(-0.25, 0.25, count) if count > 1 else np.zeros(count))


def profile_panel(profiles: Mapping[str, tuple[Array, Array, Array]], styles: Mapping[str, Style]) -> Panel:
    """The share of runs and tasks above each score."""

    def draw(axes: Axes) -> list[Handle]:
        handles: list[Handle] = []
        for method, (share, low, high) in profiles.items():
            color, dashes, marker, name = styles[method]
            look: dict[str, Any] = {
                "marker": marker,
                "markersize": 4.0,
                "markevery": marked(styles[method], len(share)),
            }
            handles += axes.plot(THRESHOLDS, share, color=color, linestyle=dashes, linewidth=1.4, label=name, **look)
            if np.isfinite(low).all():
                axes.fill_between(THRESHOLDS, low, high, color=color, alpha=ALPHA, linewidth=0)
        axes.set_ylim(-0.02, 1.02)
        return handles

    return Panel("Performance profile", "share above", draw, "Method", "score")


def improvement_panel(
    methods: Sequence[str], pairs: Mapping[tuple[str, str], Difference], styles: Mapping[str, Style]
) -> Panel:
    """A matrix of the probabilities that the method on the left is better than that above."""

    def draw(axes: Axes) -> list[Handle]:
        values = np.full((len(methods), len(methods)), np.nan)
        for (ours, theirs), found in pairs.items():
            y, x = methods.index(ours), methods.index(theirs)
            values[y, x] = found.value
            sure = found.low > 0.5 or found.high < 0.5
            weight = "bold" if sure else "normal"
            dark = abs(found.value - 0.5) > 0.35
            color = "white" if dark else BLACK
            axes.text(
                x, y, f"{found.value:.2f}", ha="center", va="center", fontsize="small", weight=weight, color=color
            )
        axes.imshow(values, cmap="PuOr_r", vmin=0, vmax=1, aspect="auto", zorder=1)  # above the grid
        _rows(axes, [f"{styles[method].name}  {k + 1}" for k, method in enumerate(methods)])
        axes.set_xticks(range(len(methods)), labels=[str(k + 1) for k in range(len(methods))])
        axes.set_ylim(len(methods) - 0.5, -0.5)
        return []

    return Panel("Probability of improvement", "", draw, xlabel="over method", from_zero=False)


def transfer_panel(
    transfer: Mapping[str, Sequence[Difference]], names: Sequence[str], styles: Mapping[str, Style], unit: str
) -> Panel:
    """For each task the difference to the reference, a row for each method."""

    def draw(axes: Axes) -> list[Handle]:
        handles: list[Handle] = []
        step = 0.8 / len(transfer)
        for k, (method, rows) in enumerate(transfer.items()):
            color = styles[method].color
            for y, found in enumerate(rows):
                place = y - 0.4 + (k + 0.5) * step
                axes.plot([found.low, found.high], [place, place], color=color, linewidth=1.2)
                axes.plot([found.value], [place], "D" if y == len(rows) - 1 else "o", color=color, markersize=4)
            handles.append(Line2D([], [], color=color, marker="o", linewidth=1.2, label=styles[method].name))
        axes.axvline(0.0, color=GREY, linewidth=1.2)
        _rows(axes, names)
        axes.margins(x=0.06)
        return handles

    return Panel("Difference to the reference", "", draw, "Method", f"difference in {unit}", from_zero=False)
