"""Whether float32, in which networks compute, can tell a suite's float64 observations apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FEWEST = 1e3  # steps of float32 at least that the range of what is observed should have


class Digits:
    """The range of each task's observations, component by component.

    Args:
        num_tasks: M.
        shape: Of an observation.
    """

    def __init__(self, num_tasks: int, shape: tuple[int, ...]) -> None:
        self._low = np.full((num_tasks, *shape), np.inf)
        self._high = -self._low

    def see(self, obs: NDArray[np.float64], task: NDArray[np.int64]) -> None:
        """Take in observations (N, *shape) of tasks (N,)."""
        np.minimum.at(self._low, task, obs)
        np.maximum.at(self._high, task, obs)

    def complaint(self) -> str | None:
        """A line on the first component whose range is lost in float32; None where all are told apart."""
        seen = np.isfinite(self._low)
        low, high = np.where(seen, self._low, 0.0), np.where(seen, self._high, 0.0)
        step = np.spacing(np.maximum(abs(low), abs(high)).astype(np.float32)).astype(np.float64)
        lost = np.argwhere((high > low) & (high - low < FEWEST * step))
        if not len(lost):
            return None
        task, *component = lost[0].tolist()
        at = task, *component
        where, start, end = ", ".join(map(str, component)), float(low[at]), float(high[at])
        return (
            f"float32 cannot tell the observations of task {task} apart: component {where} goes from {start!r} to "
            f"{end!r}, and float32 has steps of {step[at]:g} there; model.normalize_observations task normalises "
            "before it rounds"
        )
