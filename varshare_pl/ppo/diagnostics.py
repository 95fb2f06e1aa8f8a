"""What is measured of a rollout and its update, beside the losses."""

from __future__ import annotations

import torch
from torch import Tensor

from varshare_pl.learning.weight_noise import ActorNoise
from varshare_pl.networks.actions import DiagonalGaussian
from varshare_pl.networks.actor_critic import ActorCritic
from varshare_pl.networks.groups import TaskGroups
from varshare_pl.networks.noise import weight_noise
from varshare_pl.parallel import all_mean, all_sum
from varshare_pl.random import stream
from varshare_pl.rollout.minibatches import Rows
from varshare_pl.types import Detail, Rollout


@torch.no_grad()
def noise_ratio_std(policy: ActorCritic, rows: Rows, groups: TaskGroups, rollout: int, seed: int) -> float | None:
    """Standard deviation of the ratio between two draws of weight noise at equal weights: what "fresh" would inject.

    None where the method has no noise.
    """
    if not policy.actor.has_noise:
        return None
    generator = stream(seed, "noise_ratio", rollout)
    obs, actions = groups.group(rows["obs"]), groups.group(rows["actions"])
    log_probs = []
    for _ in range(2):
        noise = [weight_noise(layer, generator) for _, layer in policy.actor.layers()]
        params = policy.actor_params(groups.group_task, noise, obs)
        log_probs.append(groups.ungroup(policy.distribution.log_prob(params, actions)))
    ratio = (log_probs[0] - log_probs[1]).exp()
    mean = all_mean(ratio.mean())
    return float(all_mean((ratio - mean).square().mean()).sqrt())


@torch.no_grad()
def action_std(policy: ActorCritic, rollout: Rollout) -> list[Detail]:
    """Standard deviation of the actions that were drawn, before they were clipped or squashed, for each task.

    Mean over the dimensions of an action and a rollout's rows.

    Args:
        policy: Of continuous actions.
        rollout: What was collected.
    """
    assert isinstance(policy.distribution, DiagonalGaussian)
    std = policy.distribution.std(rollout.dist_params.flatten(0, 1))
    return _by_task("diagnostics/action_std", std, rollout.task.flatten(), policy.num_tasks)


@torch.no_grad()
def update_kl(
    policy: ActorCritic, rollout: Rollout, rows: Rows, groups: TaskGroups, actor_noise: ActorNoise | None
) -> list[Detail]:
    """KL(old ‖ new) in nats of the policy after an update from the one that acted, under its noise, for each task.

    Exact for each observation, and their mean; ``kl/policy`` is an estimate from the actions that were taken.
    """
    stored = groups.group(rows["noise"]) if "noise" in rows else None
    noise = None if actor_noise is None else actor_noise.learning(rollout.index, 0, stored)
    new = groups.ungroup(policy.actor_params(groups.group_task, noise, groups.group(rows["obs"])))
    kl = policy.distribution.kl(rollout.dist_params.flatten(0, 1), new)
    return _by_task("kl/update", kl, rows["task"], policy.num_tasks)


def _by_task(metric: str, values: Tensor, task: Tensor, num_tasks: int) -> list[Detail]:
    """Means of values (rows,) over the rows of each task (rows,) and all processes; of tasks that have rows."""
    columns = torch.stack([values, torch.ones_like(values)])
    sums, counts = all_sum(columns.new_zeros(2, num_tasks).index_add(1, task, columns))
    present = counts.nonzero().flatten().tolist()
    return [Detail(metric, float(sums[m] / counts[m]), "actor", task=m) for m in present]
