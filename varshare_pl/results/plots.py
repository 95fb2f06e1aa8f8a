"""The plots of one run, drawn from its files alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from numpy.typing import NDArray

from varshare_pl.errors import ConfigError
from varshare_pl.results.files import Diagnostics, read_diagnostics, read_heartbeat
from varshare_pl.results.info import read_run_info
from varshare_pl.results.lines import dot, draw_tasks, spread
from varshare_pl.results.style import GREY, OKABE_ITO, Handle, Panel, layer_styles, write_sheet

Array = NDArray[np.float64]
NETWORKS = ("actor", "critic")


class _Run:
    """A run's tables and the names to draw them with."""

    def __init__(self, run: Path, solved_return: float | None, task_names: Sequence[str] | None) -> None:
        self.beats = read_heartbeat(run)
        try:
            self.details = read_diagnostics(run)
        except ConfigError:  # a run without details still has its returns and losses
            self.details = _NO_DETAILS
        info = read_run_info(run)
        self.title = info.title()
        self.solved = info.solved_return if solved_return is None else solved_return
        columns = list(self.beats)
        self.num_tasks = max(sum(c.startswith(f"{kind}/return_task_") for c in columns) for kind in ("train", "eval"))
        self.names = list(task_names or info.names_for(self.num_tasks))
        if len(self.names) != self.num_tasks:
            raise ConfigError(f"{run} has {self.num_tasks} tasks, but {len(self.names)} names are given")

    def column(self, name: str) -> Array:
        """A column of the heartbeat, NaN where it is missing or not finite."""
        values = self.beats.get(name, np.full(len(self.beats["env_steps"]), np.nan))
        return np.where(np.isfinite(values), values, np.nan)

    def per_task(self, name: str) -> Array:
        """(R, M): the columns ``name_0`` …"""
        columns = [self.column(f"{name}_{m}") for m in range(self.num_tasks)]
        return np.stack(columns, axis=1) if columns else np.zeros((len(self.beats["env_steps"]), 0))


def plot_run(
    run: Path | str,
    solved_return: float | None = None,
    task_names: Sequence[str] | None = None,
    title: str | None = None,
) -> list[Path]:
    """Draw a run's plots into its ``plots`` folder, from its files alone.

    What the arguments leave open comes from the run's ``run.json``. A plot for which the run has no values, such as
    the sharing of a method that shares everything, is not drawn.

    Args:
        run: The run's folder.
        solved_return: The mean return at which a task counts as solved, drawn as a line.
        task_names: A name for each task.
        title: What the run was, shown at the top of each plot.

    Returns:
        The images written.
    """
    data = _Run(Path(run), solved_return, task_names)
    heading = data.title if title is None else title
    sheets: list[tuple[str, str, list[Panel], int]] = [
        ("returns", "Returns", _returns(data), 2),
        ("norms", "Norms of the weights", _norms(data), 2),
        ("sharing", "Sharing", _sharing(data), 3),
        ("kl_sigma", "KL and σ" if _networks(data.details, "sharing/sigma") else "KL", _kl_sigma(data), 2),
        ("losses", "Losses", _losses(data), 4),
    ]
    return [
        write_sheet(Path(run) / "plots" / f"{name}.png", f"{topic}: {heading}" if heading else topic, panels, columns)
        for name, topic, panels, columns in sheets
        if panels
    ]


def _returns(run: _Run) -> list[Panel]:
    panels = []
    for kind, title, marker in (("train", "Training", ""), ("eval", "Evaluation (greedy)", "o")):
        mean, tasks = run.column(f"{kind}/return_mean"), run.per_task(f"{kind}/return_task")
        if np.isfinite(mean).any() or np.isfinite(tasks).any():
            panels.append(Panel(title, "mean return", _draw_returns(run, mean, tasks, marker), "Task"))
    return panels


def _draw_returns(run: _Run, mean: Array, tasks: Array, marker: str) -> Callable[[Axes], list[Handle]]:
    def draw(axes: Axes) -> list[Handle]:
        handles = draw_tasks(axes, run.beats["env_steps"], tasks, run.names, mean, marker)
        if run.solved is not None:
            label = f"solved ({run.solved:g})"
            handles.append(axes.axhline(run.solved, color=GREY, linewidth=1.2, linestyle=(0, (4, 2)), label=label))
        # both panels on the same scale
        every = np.concatenate([run.per_task("train/return_task"), run.per_task("eval/return_task")])
        low, high = np.nanmin(every, initial=np.inf), np.nanmax(every, initial=-np.inf)
        if run.solved is not None:
            low, high = min(low, run.solved), max(high, run.solved)
        if low < high:
            low = 0.0 if 0 < low < 0.5 * high else low
            axes.set_ylim(low - 0.04 * (high - low), high + 0.06 * (high - low))
        return handles

    return draw


def _norms(run: _Run) -> list[Panel]:
    metrics = (
        ("sharing/theta_norm", "shared weights", r"$\Vert\bar\theta\Vert$"),
        ("sharing/mu_norm", "task weights", r"$\Vert\tilde\mu_m\Vert$"),
    )
    return [
        _layer_panel(run, metric, network, f"{network.capitalize()}: {what}", symbol)
        for metric, what, symbol in metrics
        for network in _networks(run.details, metric)
    ]


def _sharing(run: _Run) -> list[Panel]:
    metric, symbol = "sharing/ratio", "sharing ratio (1: all shared)"
    lowest = run.details.where(metric).value.min(initial=1.0)
    floor = next((floor for floor in (0.9, 0.5) if lowest >= floor + 0.1 * (1 - floor)), 0.0)
    limits = (floor, 1.0 + 0.03 * (1.0 - floor))
    networks = _networks(run.details, metric)
    panels = [_layer_panel(run, metric, name, f"{name.capitalize()}, by layer", symbol, limits) for name in networks]
    steps, tasks = _by_task(run, metric)
    if len(steps):
        title = "By task, all layers" if len(networks) < 2 else "By task, both networks"

        def draw(axes: Axes) -> list[Handle]:
            _limit(axes, *limits)
            return draw_tasks(axes, steps, tasks, run.names, tasks.mean(axis=1))

        panels.append(Panel(title, symbol, draw, "Task"))
    return panels


def _kl_sigma(run: _Run) -> list[Panel]:
    panels = []
    steps, tasks = _by_task(run, "kl/posterior", total=True)
    mean = run.column("kl/posterior")
    if len(steps):
        panels.append(
            Panel(
                "KL of posterior from prior, all layers",
                "nats",
                lambda axes: draw_tasks(axes, steps, tasks, run.names, tasks.mean(axis=1), floor=0.0),
                "Task",
            )
        )
    elif np.isfinite(mean).any():
        panels.append(_column_panel(run, "kl/posterior", "KL of posterior from prior, mean over tasks", "nats"))
    if np.isfinite(run.column("kl/policy")).any():
        panels.append(_column_panel(run, "kl/policy", "KL of old from new policy", "nats"))
    panels += [
        _layer_panel(run, "sharing/sigma", network, f"{network.capitalize()}: posterior noise", r"mean $\sigma$")
        for network in _networks(run.details, "sharing/sigma")
    ]
    return panels


def _losses(run: _Run) -> list[Panel]:
    columns = (
        ("loss/total", "Total loss"),
        ("loss/policy", "Policy loss"),
        ("loss/value", "Value loss"),
        ("loss/entropy", "Entropy (nats)"),
        ("loss/kl", "Weighted KL"),
        ("diagnostics/grad_norm", "Gradient norm"),
        ("diagnostics/clip_fraction", "Share of clipped ratios"),
        ("diagnostics/explained_variance", "Explained variance"),
    )
    return [_column_panel(run, name, title, "") for name, title in columns if np.isfinite(run.column(name)).any()]


def _column_panel(run: _Run, name: str, title: str, unit: str) -> Panel:
    def draw(axes: Axes) -> list[Handle]:
        values = run.column(name)
        seen = np.isfinite(values)
        axes.plot(run.beats["env_steps"][seen], values[seen], color=OKABE_ITO[0], linewidth=1.2, **dot(seen))
        return []

    return Panel(title, unit, draw)


def _layer_panel(
    run: _Run, metric: str, network: str, title: str, ylabel: str, limits: tuple[float, float] | None = None
) -> Panel:
    """A line per layer, the mean over tasks, in a band from the lowest to the highest task."""
    rows = run.details.where(metric, network)
    layers = run.details.where(metric).layers()

    def draw(axes: Axes) -> list[Handle]:
        handles: list[Handle] = []
        band = False
        for layer, (color, dashes) in zip(layers, layer_styles(layers), strict=True):
            steps, mean, low, high = spread(rows.where(layer=layer))
            label = layer.replace("_", " ")
            handles += axes.plot(steps, mean, color=color, linestyle=dashes, linewidth=1.6, label=label, **dot(steps))
            if (high - low > 1e-3 * np.abs(high)).any():
                band = True
                axes.fill_between(steps, low, high, color=color, alpha=0.15, linewidth=0)
        if band:
            handles.append(Patch(color=GREY, alpha=0.35, linewidth=0, label="range over tasks"))
        if limits is None:
            axes.set_ylim(0, 1.08 * max(axes.get_ylim()[1], 1e-12))
        else:
            _limit(axes, *limits)
        return handles

    return Panel(title, ylabel, draw, "Layer")


def _limit(axes: Axes, low: float, high: float) -> None:
    """Fix the scale, with a tick at its foot so that one that does not start at 0 shows it."""
    axes.set_ylim(low, high)
    axes.set_yticks(np.linspace(low, 1.0, 6))


def _by_task(run: _Run, metric: str, total: bool = False) -> tuple[Array, Array]:
    """Env steps (R,) and the mean or the sum over networks and layers for each task (R, M)."""
    rows = run.details.where(metric)
    rows = rows.take((rows.task >= 0) & (rows.task < run.num_tasks))
    steps, index = np.unique(rows.env_steps, return_inverse=True)
    cells = index * run.num_tasks + rows.task
    size = len(steps) * run.num_tasks
    count = np.bincount(cells, minlength=size)
    sums = np.bincount(cells, rows.value, size)
    values = np.where(count > 0, sums if total else sums / np.maximum(count, 1), np.nan)
    return steps.astype(np.float64), values.reshape(len(steps), run.num_tasks)


def _networks(details: Diagnostics, metric: str) -> list[str]:
    present = set(details.where(metric).network.tolist())
    return [name for name in NETWORKS if name in present]


_NO_DETAILS = Diagnostics(
    np.zeros(0, np.int64),
    np.zeros(0, np.str_),
    np.zeros(0, np.str_),
    np.zeros(0, np.str_),
    np.zeros(0, np.int64),
    np.zeros(0, np.float64),
)
