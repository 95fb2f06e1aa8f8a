"""From the gradient steps of an update to the names and values that are written down."""

from __future__ import annotations

import torch
from torch import Tensor

from varshare_pl.networks.actor_critic import ActorCritic
from varshare_pl.parallel import all_max, all_means
from varshare_pl.ppo.losses import policy_kl, total_loss
from varshare_pl.ppo.options import PPOOptions
from varshare_pl.ppo.update import StepsTaken
from varshare_pl.types import Detail


@torch.no_grad()
def update_record(
    taken: StepsTaken,
    policy: ActorCritic,
    group_task: Tensor,
    present: Tensor,
    kl_scale: float,
    options: PPOOptions,
) -> tuple[dict[str, float], list[Detail]]:
    """The heartbeat's loss, KL and diagnostics columns, and losses per task and norms per network.

    Means over the gradient steps, all at once: step by step they would cost as much as the steps themselves.

    Args:
        taken: The gradient steps.
        policy: Their policy.
        group_task: (G,) the tasks of the losses' groups.
        present: (M,) bool, the tasks that have rows, on any process.
        kl_scale: What a task's KL weighed in the loss.
        options: Have the coefficients.
    """
    log_ratio, weight = taken.losses.log_ratio, taken.weights
    of_policy, of_value, entropy = taken.losses.sums.unbind(1)  # (K, G) each
    deviation = log_ratio.expm1().abs()
    by_step = {
        "loss/total": total_loss(taken.losses, taken.kl, kl_scale, options),
        "loss/entropy": entropy.sum(1),
        "kl/policy": policy_kl(log_ratio, weight),
        "diagnostics/clip_fraction": (weight * (deviation > options.clip_range)).sum((1, 2)),
    }
    if taken.kl is not None:
        by_step["loss/kl"] = kl_scale * taken.kl.sum(1)
    values = {name: value.mean(0) for name, value in by_step.items()}
    # Processes may hold different tasks; by task they can be added up.
    by_task = of_policy.new_zeros(2, policy.num_tasks)
    by_task[:, group_task] = torch.stack([of_policy.mean(0), of_value.mean(0)])
    values = all_means(values | {"loss/policy": by_task[0], "loss/value": by_task[1]})
    metrics = {name: float(value.sum()) for name, value in values.items()}
    metrics["diagnostics/first_ratio_deviation"] = float(all_max(deviation[0].max()))
    metrics["diagnostics/stopped_early"] = float(taken.stopped_early)
    if taken.kl is not None:
        metrics["kl/posterior"] = float(policy.kl().mean())
    # Under a loss scale a norm may be infinite; its step was skipped.
    norms = torch.tensor(taken.norms or [(torch.nan, torch.nan)], dtype=torch.float64)
    norms = norms.where(norms.isfinite(), torch.nan).nanmean(0)
    metrics["diagnostics/grad_norm"] = float(norms.norm())
    details = [Detail("diagnostics/grad_norm", float(norms[n]), name) for n, name in enumerate(("actor", "critic"))]
    tasks = present.nonzero().flatten().tolist()
    for name in ("loss/policy", "loss/value"):
        # Each task's share of the loss is its own mean divided by the number of tasks present.
        details += [Detail(name, float(values[name][task]) * len(tasks), task=task) for task in tasks]
    return metrics, details
