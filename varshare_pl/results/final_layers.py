"""The layers of finished runs at their end: how much they share, how large and how alike the tasks' own weights are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from varshare_pl.results.heat_map import Layer, pair_matrices
from varshare_pl.results.lines import NETWORKS
from varshare_pl.results.run_tables import Array
from varshare_pl.results.statistics import mean_and_std
from varshare_pl.results.variant import Variant


@dataclass(frozen=True)
class FinalLayers:
    """Of each network and layer, over the finished runs of a variant; empty for a method without residuals."""

    energy: dict[Layer, Array]  # (num_runs, 1) sharing energy
    norms: dict[Layer, Array]  # (num_runs, num_tasks) of the residuals
    cosines: dict[Layer, Array]  # (num_tasks, num_tasks) of the residuals, mean over the runs

    @classmethod
    def of(cls, variant: Variant) -> FinalLayers:
        """Those of a variant that has a run."""
        tasks = len(variant.names)
        return cls(
            _values(variant, "sharing/energy", 1),
            _values(variant, "sharing/mu_norm", tasks),
            _mean(
                [
                    pair_matrices(run.tables.details.at_end_of("sharing/energy"), "sharing/cosine", tasks)
                    for run in variant.finals
                ]
            ),
        )


def _values(variant: Variant, metric: str, columns: int) -> dict[Layer, Array]:
    """The last values of a metric, one column a task, or a single one where it is of no task; NaN where it is not."""
    every = [run.tables.details.at_end_of(metric).where(metric) for run in variant.finals]
    layers = max((rows.layers() for rows in every), key=len, default=[])
    found = {(network, layer): np.full((len(every), columns), np.nan) for network in NETWORKS for layer in layers}
    for (network, layer), values in found.items():
        for out, rows in zip(values, every, strict=True):
            own = rows.where(network=network, layer=layer)
            out[np.maximum(own.task, 0)] = own.value
    return {layer: values for layer, values in found.items() if np.isfinite(values).any()}


def _mean(runs: Sequence[dict[Layer, Array]]) -> dict[Layer, Array]:
    """The mean over runs of each layer's matrix, over those that have a value."""
    every = {layer: [run[layer] for run in runs if layer in run] for layer in max(runs, key=len, default={})}
    return {
        layer: mean_and_std(np.stack(found).reshape(len(found), -1))[0].reshape(found[0].shape)
        for layer, found in every.items()
    }
