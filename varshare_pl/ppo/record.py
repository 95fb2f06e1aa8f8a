"""From the results of an update and the episodes that ended to the names and values that are written down."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from varshare_pl.parallel import all_sum
from varshare_pl.policy.actor_critic import ActorCritic
from varshare_pl.ppo.episodes import TaskEpisodes, wide
from varshare_pl.ppo.update import UpdateResult
from varshare_pl.types import Detail, Episodes


class EpisodeLog(nn.Module):
    """Training returns per task, the latest known of each, and the count of episodes.

    Args:
        num_tasks: M.
    """

    latest_return: Tensor
    total: Tensor

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        self.metric = TaskEpisodes(num_tasks)
        self.register_buffer("latest_return", torch.full((num_tasks,), torch.nan, dtype=torch.float64))
        self.register_buffer("total", torch.zeros((), dtype=torch.int64))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        if fn(torch.empty(0)).device.type == "mps":  # Apple's GPUs have no float64
            self.latest_return = self.latest_return.float()
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
            sums = torch.zeros_like(means["count"]).index_add_(0, episodes.task, wide(values))
            per_task = (all_sum(sums) / means["count"])[known]
            details += [
                Detail(f"train/{name}", value, task=task)
                for task, value in zip(known.nonzero().flatten().tolist(), per_task.tolist(), strict=True)
            ]
            if len(per_task):
                metrics[f"train/{name}_mean"] = float(per_task.mean())
        if not bool(self.latest_return.isnan().any()):
            metrics["train/return_mean"] = float(self.latest_return.mean())
        return metrics, details


def update_metrics(result: UpdateResult, policy: ActorCritic) -> dict[str, float]:
    """The heartbeat's loss, KL and diagnostics columns."""
    terms = result.terms
    metrics = {
        "loss/total": float(terms.total),
        "loss/policy": float(terms.policy.sum()),
        "loss/value": float(terms.value.sum()),
        "loss/entropy": float(terms.entropy),
        "kl/policy": float(terms.policy_kl),
        "diagnostics/grad_norm": math.hypot(*result.gradient_norms),
        "diagnostics/clip_fraction": float(terms.clip_fraction),
        "diagnostics/first_ratio_deviation": result.first_ratio_deviation,
        "diagnostics/stopped_early": float(result.stopped_early),
    }
    if policy.num_variational:
        metrics["loss/kl"] = float(terms.kl)
        metrics["kl/posterior"] = float(policy.kl_with_pullback()[0].mean())
    return metrics


def update_details(result: UpdateResult, learning_rates: dict[str, float]) -> list[Detail]:
    """Losses per task, gradient norms per network, learning rates per parameter group."""
    present = result.present.nonzero().flatten().tolist()
    rows = [
        Detail("diagnostics/grad_norm", norm, network)
        for network, norm in zip(("actor", "critic"), result.gradient_norms, strict=True)
    ]
    rows += [Detail("diagnostics/lr", lr, name) for name, lr in learning_rates.items()]
    for metric, shares in (("loss/policy", result.terms.policy), ("loss/value", result.terms.value)):
        # Each task's share of the loss is its own mean divided by the number of tasks present.
        rows += [Detail(metric, float(shares[task]) * len(present), task=task) for task in present]
    return rows
