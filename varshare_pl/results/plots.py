"""The plots of one run, drawn from its files alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varshare_pl.errors import ConfigError
from varshare_pl.paths import user_path
from varshare_pl.results.colors import COLORS, GREY, layer_styles, marked
from varshare_pl.results.columns import COLUMNS
from varshare_pl.results.drawing import Axes, Figure, Patch
from varshare_pl.results.heat_map import MAP, heat_map_panels, pair_matrices, similarity_panels
from varshare_pl.results.images import Sheet, by_name, draw_one, write_images
from varshare_pl.results.lines import (
    by_task,
    dot,
    draw_tasks,
    networks_of,
    ratio_limits,
    return_limits,
    set_ratio_scale,
    solved_line,
    spread,
)
from varshare_pl.results.look import SCREEN, Look
from varshare_pl.results.run_tables import RunTables, read_tables
from varshare_pl.results.statistics import average
from varshare_pl.results.style import Handle, Panel

Array = NDArray[np.float64]


def plot_run(
    run: Path | str,
    solved_return: float | None = None,
    task_names: Sequence[str] | None = None,
    title: str | None = None,
    look: Look = SCREEN,
    kind: str = "png",
) -> list[Path]:
    """Draw a run's plots into its ``plots`` folder, from its files alone.

    What the arguments leave open comes from the run's ``run.json``. A plot for which the run has no values, such as
    the sharing of a method that shares everything, is not drawn.

    Args:
        run: The run's folder.
        solved_return: The mean return at which a task counts as solved, drawn as a line.
        task_names: A name for each task.
        title: What the run was, shown at the top of each plot.
        look: Of the plots.
        kind: "svg" or "pdf" for such a file beside each PNG.

    Returns:
        The PNGs written.
    """
    folder = user_path(run)
    sheets = by_name(_sheets(folder, solved_return, task_names, title), look)
    return [write_images(sheet.draw(look), folder / "plots", name, kind) for name, sheet in sheets.items()]


def run_figure(run: Path | str, name: str, look: Look = SCREEN) -> Figure:
    """One of the plots that ``plot_run`` writes, to be shown or changed.

    Raises:
        ConfigError: for a name that the run has no plot of.
    """
    return draw_one(name, by_name(_sheets(user_path(run)), look), look)


def _sheets(
    run: Path,
    solved_return: float | None = None,
    task_names: Sequence[str] | None = None,
    title: str | None = None,
) -> list[Sheet]:
    """The plots for which there are values; the arguments are those of ``plot_run``."""
    data = read_tables(run)
    given: dict[str, Any] = {} if solved_return is None else {"solved": solved_return}
    if task_names:
        if len(task_names) != data.num_tasks:
            raise ConfigError(f"{run} has {data.num_tasks} tasks, but {len(task_names)} names are given")
        given["task_names"] = tuple(task_names)
    data = replace(data, info=replace(data.info, **given))
    heading = data.info.title() if title is None else title
    sheets: list[tuple[str, str, list[Panel], int]] = [
        ("returns", "Returns" if data.info.measure == "return" else "Success and returns", _returns(data), 2),
        ("norms", "Norms of the weights", _norms(data), 2),
        ("residuals", "Norms of the tasks' own weights", _residuals(data), 3),
        ("sharing", "Sharing", _sharing(data), 3),
        ("kl_sigma", "KL and σ" if networks_of(data.details, "sharing/sigma") else "KL", _kl_sigma(data), 2),
        ("losses", "Losses", _losses(data), 4),
    ]
    suffix = f": {heading}" if heading else ""
    found = [Sheet(name, f"{topic}{suffix}", panels, columns) for name, topic, panels, columns in sheets if panels]
    return [*found, *_matrices(data, suffix)]


def _matrices(run: RunTables, suffix: str) -> Iterator[Sheet]:
    """What there is of pairs of tasks: how alike their own weights are in the end, and their gradients over the run."""
    details = run.details
    if alike := pair_matrices(details.at_end_of("sharing/energy"), "sharing/cosine", run.num_tasks):
        title = f"Cosine of the tasks' own weights{suffix}"
        yield Sheet("similarity", title, similarity_panels(alike, run.names), 2, MAP)
    if of_gradients := pair_matrices(details, "gradients/cosine", run.num_tasks):
        title = f"Cosine of the tasks' gradients, mean over the run{suffix}"
        yield Sheet("cosine", title, heat_map_panels(of_gradients, run.names), 2, MAP)


def _returns(run: RunTables) -> list[Panel]:
    panels = []
    for measure in dict.fromkeys((run.info.measure, "return")):
        for kind, title, marker in (("train", "Training", ""), ("eval", "Evaluation (greedy)", "o")):
            mean, tasks = run.column(f"{kind}/{measure}_mean"), run.per_task(f"{kind}/{measure}_task")
            if np.isfinite(mean).any() or np.isfinite(tasks).any():
                draw = _draw_returns(run, measure, mean, tasks, marker)
                panels.append(Panel(title, f"mean {measure}", draw, "Task"))
    return panels


def _draw_returns(
    run: RunTables, measure: str, mean: Array, tasks: Array, marker: str
) -> Callable[[Axes], list[Handle]]:
    solved = run.info.solved if measure == run.info.measure else None

    def draw(axes: Axes) -> list[Handle]:
        handles = draw_tasks(axes, run.beats["env_steps"], tasks, run.names, mean, marker)
        if solved is not None:
            handles.append(solved_line(axes, solved))
        # both panels on the same scale
        every = np.concatenate([run.per_task(f"train/{measure}_task"), run.per_task(f"eval/{measure}_task")])
        axes.set_ylim(*return_limits(every, solved))
        return handles

    return draw


def _norms(run: RunTables) -> list[Panel]:
    metrics = (  # in Unicode: to set up the parser of formulas would take as long as drawing three panels
        ("sharing/theta_norm", "shared weights", "‖θ̄‖"),
        ("sharing/mu_norm", "task weights", "‖μ̃ₘ‖"),
    )
    return [
        _layer_panel(run, metric, network, f"{network.capitalize()}: {what}", symbol)
        for metric, what, symbol in metrics
        for network in networks_of(run.details, metric)
    ]


def _residuals(run: RunTables) -> list[Panel]:
    panels = []
    for network in networks_of(run.details, "sharing/mu_norm"):
        rows = run.details.where("sharing/mu_norm", network)
        for layer in rows.layers():
            steps, tasks = by_task(rows.where(layer=layer), run.num_tasks)
            title = f"{network.capitalize()}, {layer.replace('_', ' ')}"
            panels.append(Panel(title, "‖μ̃ₘ‖", _task_lines(run, steps, tasks), "Task"))
    return panels


def _task_lines(run: RunTables, steps: Array, tasks: Array) -> Callable[[Axes], list[Handle]]:
    return lambda axes: draw_tasks(axes, steps, tasks, run.names, average(tasks, axis=1), floor=0.0)


def _sharing(run: RunTables) -> list[Panel]:
    metric, symbol = "sharing/ratio", "sharing ratio (1: all shared)"
    limits = ratio_limits(run.details.where(metric).value)
    networks = networks_of(run.details, metric)
    panels = [_layer_panel(run, metric, name, f"{name.capitalize()}, by layer", symbol, limits) for name in networks]
    steps, tasks = by_task(run.details.where(metric), run.num_tasks)
    if len(steps):
        title = "By task, all layers" if len(networks) < 2 else "By task, both networks"

        def draw(axes: Axes) -> list[Handle]:
            set_ratio_scale(axes, *limits)
            return draw_tasks(axes, steps, tasks, run.names, average(tasks, axis=1))

        panels.append(Panel(title, symbol, draw, "Task"))
    return panels


def _kl_sigma(run: RunTables) -> list[Panel]:
    panels = []
    steps, tasks = by_task(run.details.where("kl/posterior"), run.num_tasks, total=True)
    mean = run.column("kl/posterior")
    if len(steps):
        panels.append(
            Panel(
                "KL of posterior from prior, all layers",
                "nats",
                lambda axes: draw_tasks(axes, steps, tasks, run.names, average(tasks, axis=1), floor=0.0),
                "Task",
            )
        )
    elif np.isfinite(mean).any():
        panels.append(_column_panel(run, "kl/posterior", "KL of posterior from prior, mean over tasks", "nats"))
    if np.isfinite(run.column("kl/policy")).any():
        panels.append(_column_panel(run, "kl/policy", "KL of old from new policy", "nats"))
    panels += [
        _layer_panel(run, "sharing/sigma", network, f"{network.capitalize()}: posterior noise", "mean σ")
        for network in networks_of(run.details, "sharing/sigma")
    ]
    return panels


def _losses(run: RunTables) -> list[Panel]:
    drawn = [column for column in COLUMNS if column.panel and np.isfinite(run.column(column.name)).any()]
    return [_column_panel(run, column.name, column.panel, "") for column in drawn]


def _column_panel(run: RunTables, name: str, title: str, unit: str) -> Panel:
    def draw(axes: Axes) -> list[Handle]:
        values = run.column(name)
        seen = np.isfinite(values)
        axes.plot(run.beats["env_steps"][seen], values[seen], color=COLORS[0], linewidth=1.2, **dot(seen))
        return []

    return Panel(title, unit, draw)


def _layer_panel(
    run: RunTables, metric: str, network: str, title: str, ylabel: str, limits: tuple[float, float] | None = None
) -> Panel:
    """A line per layer, the mean over tasks, in a band from the lowest to the highest task."""
    rows = run.details.where(metric, network)
    layers = run.details.where(metric).layers()

    def draw(axes: Axes) -> list[Handle]:
        handles: list[Handle] = []
        band = False
        for layer, look in zip(layers, layer_styles(layers), strict=True):
            steps, mean, low, high = spread(rows.where(layer=layer))
            style: dict[str, Any] = {"color": look.color, "linestyle": look.dashes, "linewidth": 1.4, "markersize": 4.0}
            style |= {"marker": look.marker, "markevery": marked(look, len(steps)) if len(steps) > 1 else None}
            handles += axes.plot(steps, mean, label=layer.replace("_", " "), **style)
            if (high - low > 1e-3 * np.abs(high)).any():
                band = True
                axes.fill_between(steps, low, high, color=look.color, alpha=0.15, linewidth=0)
        if band:
            handles.append(Patch(color=GREY, alpha=0.35, linewidth=0, label="range over tasks"))
        if limits is None:
            axes.set_ylim(0, 1.08 * max(axes.get_ylim()[1], 1e-12))
        else:
            set_ratio_scale(axes, *limits)
        return handles

    return Panel(title, ylabel, draw, "Layer")
