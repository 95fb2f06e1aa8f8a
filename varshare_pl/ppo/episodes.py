"""Episode returns and lengths per task, as a torchmetrics metric."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from varshare_pl.types import Episodes


class TaskEpisodes(Metric):
    """Mean return and length of the episodes that ended since the last reset, per task.

    Args:
        num_tasks: M.
    """

    full_state_update = False
    returns: Tensor
    lengths: Tensor
    counts: Tensor

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        self.num_tasks = num_tasks
        for name in ("returns", "lengths", "counts"):
            self.add_state(name, torch.zeros(num_tasks, dtype=torch.float32), dist_reduce_fx="sum")

    def update(self, episodes: Episodes) -> None:
        """Count episodes that ended."""
        ones = torch.ones_like(episodes.returns, dtype=torch.float32)
        for total, values in ((self.returns, episodes.returns), (self.lengths, episodes.lengths), (self.counts, ones)):
            total.index_add_(0, episodes.task, values.to(torch.float32))

    def compute(self) -> dict[str, Tensor]:
        """(M,) each: "return" and "length", NaN for a task without episodes, and "count"."""
        count = self.counts
        return {"return": self.returns / count, "length": self.lengths / count, "count": count}
