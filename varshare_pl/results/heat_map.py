"""Matrices of tasks by tasks as heat maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from varshare_pl.results.drawing import Axes, AxesImage, Figure, as_plain_text, colormaps
from varshare_pl.results.files import Diagnostics
from varshare_pl.results.run_tables import Array
from varshare_pl.results.style import LONGEST_TITLE, new_figure
from varshare_pl.text import shortened, text_width

MAP, BESIDE, ABOVE, BELOW, CHARACTER = 3.4, 0.9, 0.75, 0.45, 0.075  # inches
LARGEST_WITH_NUMBERS = 12  # tasks
LONGEST_NAME = 24
Layer = tuple[str, str]  # network and layer, "" where there are none


def pair_matrices(details: Diagnostics, metric: str, num_tasks: int) -> dict[Layer, Array]:
    """By network, and by layer where there are any, (M, M): a value of each pair of tasks, mean over the rows given.

    Args:
        details: Where the pairs are, each once: the row of one task, the number of the other behind the metric.
        metric: Its name, such as "gradients/cosine".
        num_tasks: M.

    Returns:
        Symmetric, 1 on the diagonal, NaN where there is no value.
    """
    prefix = f"{metric}_with_"
    found = details.take(np.char.startswith(details.metric, prefix) & np.isfinite(details.value))
    matrices = {}
    for network, layer in dict.fromkeys(zip(found.network.tolist(), found.layer.tolist(), strict=True)):
        pairs = found.where(network=network, layer=layer)
        other = np.array([int(name.removeprefix(prefix)) for name in pairs.metric.tolist()])
        total, count = (np.zeros((num_tasks, num_tasks)) for _ in range(2))
        for first, second in ((pairs.task, other), (other, pairs.task)):
            np.add.at(total, (first, second), pairs.value)
            np.add.at(count, (first, second), 1)
        matrix = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
        np.fill_diagonal(matrix, 1.0)
        matrices[network, layer] = matrix
    return matrices


def similar_first(matrix: Array) -> Array:
    """An order of the tasks (M,) in which those that are alike stand side by side.

    By their angle in the plane of the two largest eigenvectors, from the widest gap on: clusters come out as blocks,
    and tasks that are spread over a circle in their order on it.
    """
    known = np.nan_to_num(matrix)
    weights, vectors = np.linalg.eigh(known)
    places = vectors[:, -2:] * np.sqrt(np.maximum(weights[-2:], 0.0))
    angle = np.arctan2(places[:, 0], places[:, -1])
    order = np.argsort(angle, kind="stable")
    gaps = np.diff(angle[order], append=angle[order[0]] + 2 * np.pi)
    return np.roll(order, -int(np.argmax(gaps)) - 1)


def draw_similarity(title: str, matrices: Mapping[Layer, Array], names: Sequence[str]) -> Figure:
    """Draw the cosines of the tasks' own weights, a row of maps a network, with tasks that are alike side by side.

    The arguments are those of ``draw_heat_maps``.
    """
    order = similar_first(np.mean([np.nan_to_num(matrix) for matrix in matrices.values()], axis=0))
    ordered = {layer: matrix[np.ix_(order, order)] for layer, matrix in matrices.items()}
    columns = -(-len(matrices) // len({network for network, _ in matrices}))
    return draw_heat_maps(title, ordered, [names[m] for m in order], columns)


@as_plain_text()
def draw_heat_maps(title: str, matrices: Mapping[Layer, Array], names: Sequence[str], columns: int = 2) -> Figure:
    """Draw matrices (M, M), from −1 to 1, side by side.

    Args:
        title: Of the image.
        matrices: By network and layer.
        names: Of the tasks.
        columns: How many stand side by side.
    """
    names = [shortened(name, LONGEST_NAME) for name in names]
    room = 0.3 + CHARACTER * max(map(text_width, names))
    columns = min(columns, len(matrices))
    rows = -(-len(matrices) // columns)
    width, height = columns * (MAP + BESIDE) + room, ABOVE + rows * MAP + (rows - 1) * BELOW + room
    figure = new_figure(figsize=(width, height))
    figure.text(0.12 / width, 1 - 0.1 / height, shortened(title, LONGEST_TITLE), va="top", fontsize=13, weight="bold")
    for i, ((network, layer), matrix) in enumerate(matrices.items()):
        row, column = divmod(i, columns)
        left, bottom = room + column * (MAP + BESIDE), height - ABOVE - (row + 1) * MAP - row * BELOW
        axes = figure.add_axes((left / width, bottom / height, MAP / width, MAP / height))
        axes.set_title(f"{network.capitalize()} {layer.replace('_', ' ')}", fontsize=10.5, loc="left", pad=5)
        lowest = i + columns >= len(matrices)
        axes.set_xticks(range(len(names)), names if lowest else [""] * len(names), rotation=90)
        axes.set_yticks(range(len(names)), names if column == 0 else [""] * len(names))
        image = _draw(axes, matrix)
        scale = figure.add_axes(((left + MAP + 0.1) / width, bottom / height, 0.12 / width, MAP / height))
        figure.colorbar(image, cax=scale).ax.tick_params(labelsize=8)
    return figure


def _draw(axes: Axes, matrix: Array) -> AxesImage:
    image = axes.imshow(matrix, vmin=-1.0, vmax=1.0, cmap=colormaps["RdBu"])
    axes.tick_params(labelsize=9, color="#888888")
    if len(matrix) <= LARGEST_WITH_NUMBERS:
        for (row, column), value in np.ndenumerate(matrix):
            if np.isfinite(value):
                color = "white" if abs(value) > 0.6 else "black"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=color)
    return image
