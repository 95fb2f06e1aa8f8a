"""Advantage normalisation: once per rollout, per task by default."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from varshare_pl.parallel import all_sum

AdvantageNorm = Literal["task", "pooled", "none"]


def normalise_advantages(advantages: Tensor, task: Tensor, num_tasks: int, mode: AdvantageNorm) -> Tensor:
    """Advantages with mean 0 and standard deviation 1, over the rows of all processes.

    Args:
        advantages: (rows,).
        task: (rows,) int64.
        num_tasks: M.
        mode: "task": within each task; "pooled": over all rows; "none": unchanged.

    Returns:
        (rows,).
    """
    if mode == "none":
        return advantages
    if mode == "pooled":
        task, num_tasks = torch.zeros_like(task), 1
    columns = torch.stack([torch.ones_like(advantages), advantages])
    sums = all_sum(columns.new_zeros(2, num_tasks).index_add_(1, task, columns))
    count = sums[0].clamp_min(1)
    mean = sums[1] / count
    centred = advantages - mean[task]
    variance = all_sum(advantages.new_zeros(num_tasks).index_add_(0, task, centred.square())) / count
    return centred / (variance.sqrt() + 1e-8)[task]
