"""Matrices of tasks by tasks as heat maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from varshare_pl.results.drawing import Axes, colormaps
from varshare_pl.results.files import Diagnostics
from varshare_pl.results.run_tables import Array
from varshare_pl.results.style import Handle, Panel
from varshare_pl.text import shortened

MAP = 3.4  # inches
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


def similarity_panels(matrices: Mapping[Layer, Array], names: Sequence[str]) -> list[Panel]:
    """Maps of the cosines of the tasks' own weights, with tasks that are alike side by side.

    The arguments are those of ``heat_map_panels``.
    """
    order = similar_first(np.mean([np.nan_to_num(matrix) for matrix in matrices.values()], axis=0))
    ordered = {layer: matrix[np.ix_(order, order)] for layer, matrix in matrices.items()}
    return heat_map_panels(ordered, [names[m] for m in order])


def heat_map_panels(matrices: Mapping[Layer, Array], names: Sequence[str]) -> list[Panel]:
    """A map of each matrix (M, M), from −1 to 1, by network and layer, with the names of the tasks."""
    names = [shortened(name, LONGEST_NAME) for name in names]
    return [
        Panel(
            f"{network.capitalize()} {layer.replace('_', ' ')}",
            "",
            partial(_draw, matrix=matrix, names=names),
            xlabel="",
            from_zero=False,
            shared_rows=True,
        )
        for (network, layer), matrix in matrices.items()
    ]


def _draw(axes: Axes, matrix: Array, names: Sequence[str]) -> list[Handle]:
    image = axes.imshow(matrix, vmin=-1.0, vmax=1.0, cmap=colormaps["RdBu"], zorder=1)  # above the grid
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.figure.colorbar(image, cax=axes.inset_axes((1.03, 0.0, 0.05, 1.0)))  # as high as the map
    if len(matrix) <= LARGEST_WITH_NUMBERS:
        for (row, column), value in np.ndenumerate(matrix):
            if np.isfinite(value):
                color = "white" if abs(value) > 0.6 else "black"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize="x-small", color=color)
    return []
