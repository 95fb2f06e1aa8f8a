"""The kinds of panels of a report: lines with bands, intervals of methods, profiles, pairs of methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varshare_pl.results.curves import Band
from varshare_pl.results.drawing import Axes, Line2D
from varshare_pl.results.lines import solved_line
from varshare_pl.results.scores import THRESHOLDS, Difference, Estimate, Solving
from varshare_pl.results.statistics import mean_and_std
from varshare_pl.results.style import BLACK, ENV_STEPS, GREY, LONGEST_LABEL, Handle, Panel, Style
from varshare_pl.text import shortened

Array = NDArray[np.float64]
Line = tuple[str, Style, Band]
ALPHA = 0.14


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

    return Panel(title, ylabel, draw, legend, xlabel) if lines else None


def _line(axes: Axes, label: str, style: Style, band: Band, centre: str, alpha: float) -> Line2D:
    """Thin where fewer runs have a value than elsewhere, broken where their number changes."""
    color, dashes = style
    middle = band.mean if centre == "mean" else band.iqm
    low, high = (band.mean - band.std, band.mean + band.std) if centre == "mean" else (band.low, band.high)
    ends = [0, *(np.flatnonzero(np.diff(band.runs)) + 1).tolist(), len(band.x)]
    for start, end in pairwise(ends):
        part = slice(start, end)
        full = band.runs[start] == band.runs.max()
        look: dict[str, Any] = {"marker": "o", "markersize": 3.0} if end - start == 1 else {}
        axes.plot(band.x[part], middle[part], color=color, linestyle=dashes, linewidth=1.6 if full else 0.7, **look)
        if np.isfinite(low[part]).all() and end - start > 1:
            axes.fill_between(band.x[part], low[part], high[part], color=color, alpha=alpha, linewidth=0)
    return Line2D([], [], color=color, linestyle=dashes, linewidth=1.8, label=label)


def dot_panel(
    title: str,
    unit: str,
    methods: Sequence[str],
    styles: Mapping[str, Style],
    estimates: Mapping[str, Estimate],
    dots: Mapping[str, Array],
    labelled: bool = True,
) -> Panel:
    """A row for each method: IQM with its interval, and a dot for each run."""

    def draw(axes: Axes) -> list[Handle]:
        for y, method in enumerate(methods):
            color = styles[method][0]
            if method in estimates:
                _interval(axes, y, *estimates[method][2:5], color)
            values = dots.get(method, np.zeros(0))
            axes.plot(values, np.full(len(values), y + 0.28), "o", color=color, markersize=3.2, alpha=0.55, mew=0)
        _rows(axes, methods if labelled else [""] * len(methods))
        axes.margins(x=0.06)
        if unit == "score":
            low, high = axes.dataLim.intervalx
            axes.set_xlim(min(0.0, low) - 0.03, max(1.0, high) + 0.03)
        return []

    return Panel(title, "", draw, xlabel=unit, from_zero=False)


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
        for label, (color, dashes), values in lines:
            for y, dots in enumerate(values):
                axes.plot(dots, np.full(len(dots), y), "o", color=color, markersize=4, alpha=0.55, mew=0)
            means = [mean_and_std(dots[:, np.newaxis])[0].item() for dots in values]
            handles += axes.plot(means, places, color=color, linestyle=dashes, linewidth=1.4, label=label)
        if expected is not None and np.isfinite(expected).any():
            look: dict[str, Any] = {"marker": "x", "markersize": 7, "linestyle": (0, (1.5, 1.2)), "linewidth": 1.2}
            handles += axes.plot(expected, places, color=BLACK, label="expected of the head", **look)
        _rows(axes, rows)
        return handles

    return Panel(title, "", draw, "Layer", xlabel)


def _interval(axes: Axes, y: float, centre: float, low: float, high: float, color: str) -> None:
    axes.plot([low, high], [y, y], color=color, linewidth=5, alpha=0.35, solid_capstyle="butt")
    axes.plot([centre], [y], "D", color=color, markersize=5.5)


def _rows(axes: Axes, names: Sequence[str]) -> None:
    """Names down the side, the first on top."""
    axes.set_yticks(range(len(names)), labels=[shortened(name, LONGEST_LABEL) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)


def solving_panel(title: str, solving: Mapping[str, Solving], styles: Mapping[str, Style], budget: float) -> Panel:
    """Env steps to solve of each run; those that ended unsolved stand at the right, as open triangles."""

    def draw(axes: Axes) -> list[Handle]:
        for y, (method, found) in enumerate(solving.items()):
            color = styles[method][0]
            solved = np.sort(found.steps[np.isfinite(found.steps)])
            axes.plot(solved, _apart(len(solved), y), "o", color=color, markersize=4, alpha=0.7, mew=0)
            unsolved = len(found.steps) - len(solved)
            places = _apart(unsolved, y)
            axes.plot(np.full(unsolved, 1.04 * budget), places, ">", color=color, mfc="white", markersize=5)
            if np.isfinite(found.median):
                axes.vlines(found.median, y - 0.35, y + 0.35, color=color, linewidth=2)
        axes.axvline(budget, color=GREY, linewidth=1, linestyle=(0, (4, 2)))
        axes.dataLim.update_from_data_x([0.0, 1.08 * budget], ignore=False)
        counts = [f"{method} ({found.solved}/{len(found.steps)})" for method, found in solving.items()]
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
            color, dashes = styles[method]
            handles += axes.plot(THRESHOLDS, share, color=color, linestyle=dashes, linewidth=1.6, label=method)
            if np.isfinite(low).all():
                axes.fill_between(THRESHOLDS, low, high, color=color, alpha=ALPHA, linewidth=0)
        axes.set_ylim(-0.02, 1.02)
        return handles

    return Panel("Performance profile", "share above", draw, "Method", "score")


def improvement_panel(methods: Sequence[str], pairs: Mapping[tuple[str, str], Difference]) -> Panel:
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
            axes.text(x, y, f"{found.value:.2f}", ha="center", va="center", fontsize=8, weight=weight, color=color)
        axes.imshow(values, cmap="PuOr_r", vmin=0, vmax=1, aspect="auto", zorder=1)  # above the grid
        _rows(axes, [f"{method}  {k + 1}" for k, method in enumerate(methods)])
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
            color = styles[method][0]
            for y, found in enumerate(rows):
                place = y - 0.4 + (k + 0.5) * step
                axes.plot([found.low, found.high], [place, place], color=color, linewidth=2, alpha=0.5)
                axes.plot([found.value], [place], "D" if y == len(rows) - 1 else "o", color=color, markersize=4)
            handles.append(Line2D([], [], color=color, marker="o", linewidth=2, label=method))
        axes.axvline(0.0, color=GREY, linewidth=1.2)
        _rows(axes, names)
        axes.margins(x=0.06)
        return handles

    return Panel("Difference to the reference", "", draw, "Method", f"difference in {unit}", from_zero=False)
