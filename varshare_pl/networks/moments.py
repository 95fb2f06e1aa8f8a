"""Running mean and variance of the rows of each task, or of all tasks together."""

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

    With ``shared`` all tasks have the same ones, also those without rows. Within an ``update`` each task that has rows
    weighs the same, however many they are, as in the loss: else the scale would be that of the tasks with the longest
    episodes, and move with the mix of tasks. Updates weigh by their rows, so that a new task moves an old scale slowly.

    They change in ``update`` only. Its sums go over all processes, so that each has the same moments.

    Args:
        num_tasks: M.
        shape: Of a row, such as (obs_size,); () for numbers.
        dtype: Of mean and variance; None: torch's default.
        shared: One mean and variance for all tasks.

    Attributes:
        count: (M,) int64, rows; with ``shared`` (1,), of all tasks.
        mean: (M, *shape); with ``shared`` (1, *shape).
        variance: The same; divided by the count, not by one less.
    """

    # A task that joins a trained network has the mean of the others, and no rows: its first ones replace it.
    new_task: ClassVar[Mapping[str, NewTask]] = {"mean": "mean", "variance": "mean"}

    count: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(
        self, num_tasks: int, shape: tuple[int, ...] = (), dtype: torch.dtype | None = None, shared: bool = False
    ) -> None:
        super().__init__()
        self.num_tasks, self.shared = num_tasks, shared
        kept = 1 if shared else num_tasks
        self.register_buffer("count", torch.zeros(kept, dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(kept, *shape, dtype=dtype))
        self.register_buffer("variance", torch.ones(kept, *shape, dtype=dtype))

    @property
    def std(self) -> Tensor:
        """Of the variance's shape, at least ``SMALLEST_STD``."""
        return self.variance.sqrt().clamp_min(SMALLEST_STD)

    def by_task(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each task, (M, *shape)."""
        mean, std = (kept.expand(self.num_tasks, *kept.shape[1:]) for kept in (self.mean, self.std))
        return mean, std

    @torch.no_grad()
    def update(self, rows: Tensor, task: Tensor) -> None:
        """Add rows (rows, *shape) of tasks (rows,), those of all processes at once.

        Moments of the new rows from their own mean, in float64, then merged with the old ones (Chan, Golub, LeVeque
        1983, eq. 2.1): no difference of large numbers is taken.
        """
        added, mean, variance = statistics_by_task(rows, task, self.num_tasks)
        if self.shared:
            added, mean, variance = _together(added, mean, variance)
        new, old = (count.to(mean.dtype).view(-1, *[1] * (mean.dim() - 1)) for count in (added, self.count))
        total = (old + new).clamp_min(1)
        difference = mean - self.mean
        merged = (old * self.variance + new * variance + difference.square() * old * new / total) / total
        self.mean.copy_(torch.where(new > 0, self.mean + difference * new / total, self.mean))
        self.variance.copy_(torch.where(new > 0, merged, self.variance))
        self.count += added

    def normalise(self, rows: Tensor, task: Tensor) -> Tensor:
        """Rows (rows, *shape) of tasks (rows,) with their task's mean at 0 and its standard deviation at 1."""
        mean, std = self.by_task()
        return (rows - mean[task]) / std[task]

    def denormalise(self, rows: Tensor, task: Tensor) -> Tensor:
        """The inverse of ``normalise``."""
        mean, std = self.by_task()
        return rows * std[task] + mean[task]


def _together(count: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Count (1,), mean and variance (1, *shape) of a mixture in which every task with rows has the same share."""
    present = count > 0
    mean, variance = mean[present], variance[present]
    middle = mean.mean(0, keepdim=True)
    return count.sum(0, keepdim=True), middle, (variance + (mean - middle).square()).mean(0, keepdim=True)
