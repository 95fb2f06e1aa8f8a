"""Running mean and variance of each task's rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from varshare_pl.networks.layer import NewTask
from varshare_pl.parallel import statistics_by_task

SMALLEST_STD = 1e-4  # so that what does not vary is not blown up to noise


class TaskMoments(nn.Module):
    """Mean and variance over all rows that a task has had so far; 0 and 1 for a task without rows.

    They change in ``update`` only. Its sums go over all processes, so that each has the same moments.

    Args:
        num_tasks: M.
        shape: Of a row, such as (obs_size,); () for numbers.
        dtype: Of mean and variance; None: torch's default.

    Attributes:
        count: (M,) int64, rows.
        mean: (M, *shape).
        variance: (M, *shape), divided by the count, not by one less.
    """

    # A task that joins a trained network has the mean of the others, and no rows: its first ones replace it.
    new_task: ClassVar[Mapping[str, NewTask]] = {"mean": "mean", "variance": "mean"}

    count: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, num_tasks: int, shape: tuple[int, ...] = (), dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(num_tasks, dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(num_tasks, *shape, dtype=dtype))
        self.register_buffer("variance", torch.ones(num_tasks, *shape, dtype=dtype))

    @property
    def std(self) -> Tensor:
        """(M, *shape), at least ``SMALLEST_STD``."""
        return self.variance.sqrt().clamp_min(SMALLEST_STD)

    @torch.no_grad()
    def update(self, rows: Tensor, task: Tensor) -> None:
        """Add rows (rows, *shape) of tasks (rows,), those of all processes at once.

        Moments of the new rows from their own mean, in float64, then merged with the old ones (Chan, Golub, LeVeque
        1983, eq. 2.1): no difference of large numbers is taken.
        """
        added, mean, variance = statistics_by_task(rows, task, len(self.count))
        new, old = (count.to(mean.dtype).view(-1, *[1] * (mean.dim() - 1)) for count in (added, self.count))
        total = (old + new).clamp_min(1)
        difference = mean - self.mean
        merged = (old * self.variance + new * variance + difference.square() * old * new / total) / total
        self.mean.copy_(torch.where(new > 0, self.mean + difference * new / total, self.mean))
        self.variance.copy_(torch.where(new > 0, merged, self.variance))
        self.count += added

    def normalise(self, rows: Tensor, task: Tensor) -> Tensor:
        """Rows (rows, *shape) of tasks (rows,) with their task's mean at 0 and its standard deviation at 1."""
        return (rows - self.mean[task]) / self.std[task]

    def denormalise(self, rows: Tensor, task: Tensor) -> Tensor:
        """The inverse of ``normalise``."""
        return rows * self.std[task] + self.mean[task]
