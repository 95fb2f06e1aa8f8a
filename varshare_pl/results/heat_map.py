"""Matrices of tasks by tasks as heat maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from varshare_pl.results.drawing import Figure, FigureCanvasAgg, as_plain_text, colormaps
from varshare_pl.results.run_tables import Array, RunTables
from varshare_pl.results.style import DPI, LONGEST_TITLE, write_image
from varshare_pl.text import shortened, text_width

COSINE = "gradients/cosine_with_"
MAP, BESIDE, ABOVE, CHARACTER, LARGEST_WITH_NUMBERS = 3.4, 0.9, 0.75, 0.075, 12  # inches, and tasks
LONGEST_NAME = 24


def cosine_matrices(run: RunTables) -> dict[str, Array]:
    """By network (M, M): the cosine between the gradients of two tasks, mean over the run; NaN where there is none."""
    details = run.details
    rows = np.char.startswith(details.metric, COSINE) & np.isfinite(details.value)
    found = details.take(rows)
    matrices = {}
    for network in dict.fromkeys(found.network.tolist()):
        pairs = found.where(network=network)
        other = np.array([int(name.removeprefix(COSINE)) for name in pairs.metric.tolist()])
        total, count = (np.zeros((run.num_tasks, run.num_tasks)) for _ in range(2))
        for first, second in ((pairs.task, other), (other, pairs.task)):
            np.add.at(total, (first, second), pairs.value)
            np.add.at(count, (first, second), 1)
        matrix = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
        np.fill_diagonal(matrix, 1.0)
        matrices[network] = matrix
    return matrices


@as_plain_text()
def write_heat_maps(path: Path, title: str, matrices: Mapping[str, Array], names: Sequence[str]) -> Path:
    """Draw means over a run (M, M), from −1 to 1, side by side.

    Args:
        path: Of the image.
        title: Of the image.
        matrices: By network.
        names: Of the tasks.
    """
    names = [shortened(name, LONGEST_NAME) for name in names]
    room = 0.3 + CHARACTER * max(map(text_width, names))
    width, height = len(matrices) * (MAP + BESIDE) + room, ABOVE + MAP + room
    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    figure.text(0.12 / width, 1 - 0.1 / height, shortened(title, LONGEST_TITLE), va="top", fontsize=13, weight="bold")
    for i, (name, matrix) in enumerate(matrices.items()):
        left = room + i * (MAP + BESIDE)
        axes = figure.add_axes((left / width, room / height, MAP / width, MAP / height))
        image = axes.imshow(matrix, vmin=-1.0, vmax=1.0, cmap=colormaps["RdBu"])
        axes.set_title(f"{name.capitalize()}, mean over the run", fontsize=10.5, loc="left", pad=5)
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names if i == 0 else [""] * len(names))
        axes.tick_params(labelsize=9, color="#888888")
        if len(names) <= LARGEST_WITH_NUMBERS:
            for (row, column), value in np.ndenumerate(matrix):
                if np.isfinite(value):
                    color = "white" if abs(value) > 0.6 else "black"
                    axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=color)
        scale = figure.add_axes(((left + MAP + 0.1) / width, room / height, 0.12 / width, MAP / height))
        figure.colorbar(image, cax=scale).ax.tick_params(labelsize=8)
    return write_image(figure, path)
