"""Statistics over runs: pure functions on arrays whose first axis is the runs, NaN where a run has no value."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def carry_forward(steps: Array, values: Array, end: float, grid: Array) -> Array:
    """A run's values (R,), taken at its env steps (R,), on a grid (P,): at each point its last finite value so far.

    NaN before the first value, and beyond the end, the last env step that the run has come to: nothing is made up
    for what a run has not yet trained.
    """
    seen = np.isfinite(values)
    latest = np.searchsorted(steps[seen], grid, side="right") - 1  # -1, before the first: the NaN at the end
    return np.where(grid <= end, np.append(values[seen], np.nan)[latest], np.nan)


def mean_and_std(values: Array) -> tuple[Array, Array, NDArray[np.int64]]:
    """Mean, standard deviation and number of runs of each column of (num_runs, K), over the runs that have a value.

    The standard deviation is that of a sample, with n - 1; NaN where fewer than two runs have a value.
    """
    seen = np.isfinite(values)
    runs = seen.sum(axis=0)
    mean = np.where(runs > 0, np.where(seen, values, 0.0).sum(axis=0) / np.maximum(runs, 1), np.nan)
    squares = np.where(seen, values - mean, 0.0) ** 2
    std = np.where(runs > 1, np.sqrt(squares.sum(axis=0) / np.maximum(runs - 1, 1)), np.nan)
    return mean, std, runs


def same_runs(values: Array) -> list[slice]:
    """The stretches of points of (num_runs, P) in each of which the same runs have values, at least one of them."""
    seen = np.isfinite(values)
    changes = np.flatnonzero((seen[:, 1:] != seen[:, :-1]).any(axis=0)) + 1
    bounds = [0, *changes.tolist(), values.shape[1]]
    stretches = [slice(low, high) for low, high in pairwise(bounds)]
    return [stretch for stretch in stretches if seen[:, stretch].any()]


def median_steps(steps: Array) -> float:
    """The median of the steps to solve (num_runs,), where inf stands for a run that did not solve.

    A run that did not solve so counts as slower than any that did; inf if that leaves the median undefined, NaN
    without runs.
    """
    return float(np.median(steps)) if len(steps) else float("nan")
