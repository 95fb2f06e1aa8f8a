"""Episode returns and lengths per task, as a torchmetrics metric, and their record over a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from varshare_pl.parallel import all_sum, double
from varshare_pl.types import Detail, Episodes


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
        rows = torch.stack([double(column) for column in (episodes.returns, episodes.lengths, episodes.task >= 0)])
        self.totals = self.totals.to(rows).index_add(1, episodes.task, rows)

    def compute(self) -> dict[str, Tensor]:
        """(M,) each: "return" and "length", NaN for a task without episodes, and "count"."""
        returns, lengths, count = self.totals
        return {"return": returns / count, "length": lengths / count, "count": count}


def _over_processes(totals: Tensor, group: Any) -> list[Tensor]:
    """The totals of all processes as one, where torchmetrics would have a list to add up."""
    del group  # there is only one
    return [all_sum(totals)]


class EpisodeLog(nn.Module):
    """Training returns per task, the latest known of each, and the count of episodes.

    Args:
        num_tasks: M.
        success: Whether episodes tell of success; the latest known of it is kept as well then.
    """

    latest_return: Tensor
    latest_success: Tensor
    total: Tensor

    def __init__(self, num_tasks: int, success: bool = False) -> None:
        super().__init__()
        self.metric = TaskEpisodes(num_tasks)
        self.register_buffer("latest_return", torch.full((num_tasks,), torch.nan, dtype=torch.float64))
        if success:
            self.register_buffer("latest_success", self.latest_return.clone())
        self.register_buffer("total", torch.zeros((), dtype=torch.int64))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        if fn(torch.empty(0)).device.type == "mps":  # Apple's GPUs have no float64
            self.latest_return = self.latest_return.float()
            if "latest_success" in self._buffers:
                self.latest_success = self.latest_success.float()
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def add(self, episodes: Episodes) -> tuple[dict[str, float], list[Detail]]:
        """Metrics and details of the episodes that ended in a rollout.

        ``train/return_task_m`` is the mean over the task's episodes of this rollout, absent where it has none.
        ``train/return_mean`` is the mean over tasks of each one's latest such value, absent until every task has one: a
        mean over only those tasks that happen to end an episode would jump with the mix.
        """
        self.metric.reset()
        self.metric.update(episodes)
        # torchmetrics squeezes what has one element; one task is still a list of tasks.
        means = {name: value.reshape(-1) for name, value in self.metric.compute().items()}
        self.total += means["count"].sum().long()
        known = means["count"] > 0
        self.latest_return = torch.where(known, means["return"], self.latest_return)

        metrics: dict[str, float] = {"episodes": int(self.total)}
        details = []
        for task in known.nonzero().flatten().tolist():
            metrics[f"train/return_task_{task}"] = float(means["return"][task])
            details.append(Detail("train/length", float(means["length"][task]), task=task))
        for name, values in episodes.info.items():
            sums = torch.zeros_like(means["count"]).index_add_(0, episodes.task, double(values))
            per_task = (all_sum(sums) / means["count"])[known]
            details += [
                Detail(f"train/{name}", value, task=task)
                for task, value in zip(known.nonzero().flatten().tolist(), per_task.tolist(), strict=True)
            ]
            if len(per_task):
                metrics[f"train/{name}_mean"] = float(per_task.mean())
        if not bool(self.latest_return.isnan().any()):
            metrics["train/return_mean"] = float(self.latest_return.mean())
        if episodes.success is not None:
            self._add_success(episodes.task, double(episodes.success), metrics, details)
        return metrics, details

    def _add_success(self, task: Tensor, success: Tensor, metrics: dict[str, float], details: list[Detail]) -> None:
        """The same of success, over the episodes that tell it; the others are counted."""
        told = ~success.isnan()
        rows = torch.stack([success.nan_to_num(), told.to(success), (~told).to(success)])
        sums, count, missing = all_sum(rows.new_zeros(3, self.metric.num_tasks).index_add(1, task, rows))
        self.latest_success = torch.where(count > 0, sums / count, self.latest_success)
        metrics |= {f"train/success_task_{m}": float(sums[m] / count[m]) for m in count.nonzero().flatten().tolist()}
        details += [
            Detail("train/success_missing", float(missing[m]), task=m) for m in missing.nonzero().flatten().tolist()
        ]
        if not bool(self.latest_success.isnan().any()):
            metrics["train/success_mean"] = float(self.latest_success.mean())
