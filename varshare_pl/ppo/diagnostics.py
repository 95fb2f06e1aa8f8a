"""What is measured of a rollout and its update, beside the losses."""

from __future__ import annotations

import torch

from varshare_pl.networks.actor_critic import ActorCritic
from varshare_pl.networks.groups import TaskGroups
from varshare_pl.networks.noise import weight_noise
from varshare_pl.parallel import all_mean
from varshare_pl.random import stream
from varshare_pl.rollout.minibatches import Rows


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
        params = policy.actor.compute(policy.actor.prepare(groups.group_task, noise), obs)
        log_probs.append(groups.ungroup(policy.distribution.log_prob(params, actions)))
    ratio = (log_probs[0] - log_probs[1]).exp()
    mean = all_mean(ratio.mean())
    return float(all_mean((ratio - mean).square().mean()).sqrt())
