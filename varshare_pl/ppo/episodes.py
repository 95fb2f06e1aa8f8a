"""Episode returns and lengths per task, as a torchmetrics metric."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from varshare_pl.parallel import all_sum
from varshare_pl.types import Episodes


class TaskEpisodes(Metric):
    """Mean return and length of the episodes that ended since the last reset, per task.

    Args:
        num_tasks: M.
    """

    full_state_update = False
    totals: Tensor  # (3, M) float64 sums of returns, of lengths, and counts: in one, for one exchange between processes

    def __init__(self, num_tasks: int) -> None:
        super().__init__(dist_sync_fn=_over_processes)
        self.num_tasks = num_tasks
        self.add_state("totals", torch.zeros(3, num_tasks), dist_reduce_fx="sum")

    def update(self, episodes: Episodes) -> None:
        """Count episodes that ended."""
        columns = (episodes.returns, episodes.lengths, torch.ones_like(episodes.returns))
        rows = torch.stack([wide(column) for column in columns])
        self.totals = self.totals.to(rows).index_add(1, episodes.task, rows)

    def compute(self) -> dict[str, Tensor]:
        """(M,) each: "return" and "length", NaN for a task without episodes, and "count"."""
        returns, lengths, count = self.totals
        return {"return": returns / count, "length": lengths / count, "count": count}


def wide(numbers: Tensor) -> Tensor:
    """The same in float64, in which a sum of many loses nothing; in float32 on Apple's GPUs, which have none."""
    return numbers.to(torch.float32 if numbers.device.type == "mps" else torch.float64)


def _over_processes(totals: Tensor, group: Any) -> list[Tensor]:
    """The totals of all processes as one, where torchmetrics would have a list to add up."""
    del group  # there is only one
    return [all_sum(totals)]
