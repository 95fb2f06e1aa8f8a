"""The plots of a report: mean over seeds as a line, ± 1 standard deviation as a band."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from varshare_pl.results.aggregate import mean_and_std, same_runs
from varshare_pl.results.curves import Curve, pick
from varshare_pl.results.experiment import Experiment, shortened
from varshare_pl.results.lines import (
    MANY_TASKS,
    NETWORKS,
    ratio_limits,
    return_limits,
    set_ratio_scale,
    solved_line,
    tasks_legend,
)
from varshare_pl.results.style import BLACK, OKABE_ITO, Handle, Panel, layer_styles, task_colors, write_sheet

Array = NDArray[np.float64]
SHEETS = ("returns", "sharing", "norms", "kl")


def draw_report(experiment: Experiment, curves: Sequence[Curve], folder: Path) -> list[Path]:
    """Draw the sheets for which there are curves into a folder; gives the images written."""
    drawing = _Drawing(experiment, curves)
    sheets = {
        "returns": ("Returns", drawing.returns(), 2),
        "sharing": ("Sharing", drawing.sharing(), 3),
        "norms": ("Norms of the weights", drawing.norms(), 2),
        "kl": ("KL", drawing.kl(), 2),
    }
    return [
        write_sheet(
            folder / f"{name}.png", f"{topic}: {drawing.heading()}", panels, columns, drawing.caption(name == "returns")
        )
        for name, (topic, panels, columns) in sheets.items()
        if panels
    ]


class _Drawing:
    """The panels of each sheet; a run without rows has no part in them."""

    def __init__(self, experiment: Experiment, curves: Sequence[Curve]) -> None:
        self.experiment = experiment
        self.curves = curves
        self.names = experiment.names
        self.runs = [run for run in experiment.runs if run.env_steps]

    def heading(self) -> str:
        info, n = self.experiment.info, len(self.runs)
        parts = (info.suite or info.experiment, info.method, f"{n} seed" if n == 1 else f"{n} seeds")
        return ", ".join(part for part in parts if part)

    def caption(self, returns: bool) -> str:
        """What line and band are, and which runs are not in all of it."""
        n = len(self.runs)
        parts = [f"Line: mean over {n} seeds. Band: ± 1 standard deviation over seeds (n − 1)."]
        if n == 1:
            parts = ["One seed, so no band."]
        if returns:
            parts.append("Training: the last known return of each run. Evaluation: deterministic.")
        if any(((runs > 0) & (runs < n)).any() for runs in map(_runs, self.curves)):
            parts.append(f"Thin: not all {n} runs have a value there; a line breaks where runs join or drop out.")
        behind = [f"{run.name} ({run.env_steps:,} env steps)" for run in self.runs if not self.experiment.finished(run)]
        if behind:
            parts.append(f"Unfinished: {shortened(behind)}.")
        absent = [run.name for run in self.experiment.runs if not run.env_steps]
        if absent:
            parts.append(f"Without a row, so not counted: {shortened(absent)}.")
        return " ".join(parts)

    def returns(self) -> list[Panel]:
        kinds = (("train", "Training", ""), ("eval", "Evaluation", "o"))
        every = [curve for kind, _, _ in kinds for curve in pick(self.curves, f"{kind}/return")]
        limits = return_limits(_reach(every), self.experiment.info.solved_return)
        overall, by_task = [], []
        for kind, title, marker in kinds:
            curves = pick(self.curves, f"{kind}/return")
            if len(curves) > 2:
                draw = self._returns_panel(curves[-1:], limits, marker)
                overall.append(Panel(f"{title}, mean over tasks", "mean return", draw, "Task"))
            if curves:
                title = f"{title}, by task" if len(curves) > 2 else title
                by_task.append(Panel(title, "mean return", self._returns_panel(_tasks(curves), limits, marker), "Task"))
        return overall + by_task

    def _returns_panel(
        self, curves: Sequence[Curve], limits: tuple[float, float], marker: str
    ) -> Callable[[Axes], list[Handle]]:
        def draw(axes: Axes) -> list[Handle]:
            handles = self._task_lines(axes, curves, marker)
            if self.experiment.info.solved_return is not None:
                handles.append(solved_line(axes, self.experiment.info.solved_return))
            axes.set_ylim(*limits)
            return handles

        return draw

    def sharing(self) -> list[Panel]:
        metric, label = "sharing/ratio", "sharing ratio (1: all shared)"
        curves = [curve for curve in self.curves if curve.metric == metric]
        limits = ratio_limits(_reach(curves))
        panels = self._layer_panels(metric, "by layer", label, limits)
        tasks = pick(curves, metric)
        if tasks:

            def draw(axes: Axes) -> list[Handle]:
                set_ratio_scale(axes, *limits)
                return self._task_lines(axes, tasks if len(tasks) > 2 else _tasks(tasks))

            panels.append(Panel("By task, all layers", label, draw, "Task"))
        return panels

    def norms(self) -> list[Panel]:
        return [
            *self._layer_panels("sharing/theta_norm", "shared weights", "‖θ̄‖"),
            *self._layer_panels("sharing/mu_norm", "task weights, mean over tasks", "‖μ̃ₘ‖"),
        ]

    def kl(self) -> list[Panel]:
        panels = []
        tasks = pick(self.curves, "kl/posterior")
        if tasks:
            shown = tasks if len(tasks) > 2 else _tasks(tasks)
            panels.append(
                Panel(
                    "KL of posterior from prior, all layers",
                    "nats",
                    lambda axes: self._task_lines(axes, shown, floor=0.0),
                    "Task",
                )
            )
        for curve in pick(self.curves, "kl/policy"):

            def draw(axes: Axes, curve: Curve = curve) -> list[Handle]:
                self._line(axes, curve, "", OKABE_ITO[0])
                return []

            panels.append(Panel("KL of old from new policy", "nats", draw))
        return panels

    def _layer_panels(
        self, metric: str, what: str, ylabel: str, limits: tuple[float, float] | None = None
    ) -> list[Panel]:
        panels = []
        for network in NETWORKS:
            curves = pick(self.curves, metric, network)
            if curves:

                def draw(axes: Axes, curves: Sequence[Curve] = curves) -> list[Handle]:
                    styles = zip(curves, layer_styles([curve.layer for curve in curves]), strict=True)
                    handles: list[Handle] = [
                        self._line(axes, curve, curve.layer.replace("_", " "), color, linestyle=dashes)
                        for curve, (color, dashes) in styles
                    ]
                    if limits is None:
                        axes.set_ylim(0, 1.08 * max(axes.get_ylim()[1], 1e-12))
                    else:
                        set_ratio_scale(axes, *limits)
                    return handles

                panels.append(Panel(f"{network.capitalize()}: {what}", ylabel, draw, "Layer"))
        return panels

    def _task_lines(
        self, axes: Axes, curves: Sequence[Curve], marker: str = "", floor: float | None = None
    ) -> list[Handle]:
        """A line for each task, with bands if they are few, and one for the mean over tasks if it is among them."""
        colors, many = task_colors(len(self.names)), len(self.names) > MANY_TASKS
        width, band = (0.6, 0.0) if many else (1.3, 0.1)
        style: dict[str, Any] = {"marker": marker, "markersize": 2.5 if many else 4} if marker else {}
        lines = [
            self._line(axes, curve, self.names[curve.task], colors[curve.task], width, band, **style)
            for curve in curves
            if curve.task is not None
        ]
        handles = tasks_legend(lines)
        handles += [self._line(axes, curve, "mean", BLACK, 2.4, **style) for curve in curves if curve.task is None]
        if floor is not None:
            axes.set_ylim(bottom=floor)
        return handles

    def _line(
        self, axes: Axes, curve: Curve, label: str, color: Any, width: float = 1.6, band: float = 0.16, **style: Any
    ) -> Line2D:
        """Mean and band, so opaque, of a curve: thin where runs are missing, broken where other runs make the mean."""
        mean, std, runs = mean_and_std(curve.values)
        for part in same_runs(curve.values):
            steps, low, high = curve.env_steps[part], (mean - std)[part], (mean + std)[part]
            full = runs[part.start] == len(self.runs)
            look: dict[str, Any] = {"marker": "o", "markersize": 3} if len(steps) == 1 else {}
            look |= style | ({} if full else {"markerfacecolor": "white"})
            axes.plot(steps, mean[part], color=color, linewidth=width if full else 0.4 * width, **look)
            if band and runs[part.start] > 1:
                alpha = band if full else 0.5 * band
                if len(steps) == 1:
                    axes.vlines(steps, low, high, color=color, alpha=alpha, linewidth=4)
                else:
                    axes.fill_between(steps, low, high, color=color, alpha=alpha, linewidth=0)
        return Line2D([], [], color=color, linewidth=width, label=label, **style)


def _tasks(curves: Sequence[Curve]) -> list[Curve]:
    return [curve for curve in curves if curve.task is not None]


def _runs(curve: Curve) -> NDArray[np.int64]:
    return mean_and_std(curve.values)[2]


def _reach(curves: Sequence[Curve]) -> Array:
    """All that lines and bands come to."""
    parts = [np.zeros(0)]
    for curve in curves:
        mean, std, _ = mean_and_std(curve.values)
        parts += [mean - np.nan_to_num(std), mean + np.nan_to_num(std)]
    return np.concatenate(parts)
