"""PPO's losses (Schulman et al. 2017, arXiv 1707.06347), and the objective that they add up to.

    L = mean over tasks of [ L_policy,m + c_V L_value,m − c_H H_m + (β̃ / P) · KL_m ]

β̃ is ``kl_weight`` and P the number of variational weights of one task, so that kl_weight means the same at every width
and for every number of tasks.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from varshare_pl.learning.weight_noise import NetworkNoise
from varshare_pl.networks.actor_critic import ActorCritic
from varshare_pl.ppo.options import PPOOptions
from varshare_pl.types import Minibatch


class StepInput(NamedTuple):
    """What one gradient step is taken on."""

    batch: Minibatch
    actor_noise: NetworkNoise  # the noise that acted; None for the posterior mean
    critic_noise: NetworkNoise


class Losses(NamedTuple):
    """The parts of the loss of a minibatch, or of K ones with a leading axis (K, …), without their coefficients.

    Sums over groups are means over tasks.
    """

    sums: Tensor  # (3, G) each group's share of the clipped surrogate, of the squared error, and of the entropy in nats
    log_ratio: Tensor  # (G, R) ln of the PPO ratio, detached

    @property
    def policy(self) -> Tensor:
        """(G,) of the clipped surrogate."""
        return self.sums[..., 0, :]

    @property
    def value(self) -> Tensor:
        """(G,) of the squared error."""
        return self.sums[..., 1, :]

    @property
    def entropy(self) -> Tensor:
        """(G,) of the entropy."""
        return self.sums[..., 2, :]


def compute_losses(policy: ActorCritic, step: StepInput, options: PPOOptions) -> Losses:
    """The parts of the loss that depend on data, to differentiate."""
    batch = step.batch
    params = policy.actor_params(batch.group_task, step.actor_noise, batch.obs)
    log_prob, entropy = policy.distribution.log_prob_and_entropy(params, batch.actions)
    log_ratio = log_prob - batch.log_prob
    values = policy.critic_outputs(batch.group_task, step.critic_noise, batch.obs)
    surrogate = clipped_surrogate(log_ratio.exp(), batch.advantages, options.clip_range)
    error = squared_error(values, batch.returns, batch.values, options.value_clip_range)
    return Losses((torch.stack([surrogate, error, entropy]) * batch.weight).sum(-1), log_ratio.detach())


def total_loss(losses: Losses, kl: Tensor | None, kl_scale: float | Tensor, options: PPOOptions) -> Tensor:
    """The loss, () or (K,).

    Args:
        losses: From ``compute_losses``.
        kl: (M,) KL to the prior of each task's weights in nats; None: nothing is variational.
        kl_scale: What a task's KL weighs, from ``kl_scale``.
        options: Have the coefficients.
    """
    coefficients = losses.sums.new_tensor([1.0, options.value_coef, -options.entropy_coef])
    total = losses.sums.sum(-1) @ coefficients
    return total if kl is None else total + kl_scale * kl.sum(-1)


def kl_scale(kl_weight: float, policy: ActorCritic) -> float:
    """What the KL of one task, in nats, weighs in the loss: β̃ / (P M)."""
    return kl_weight / (policy.num_variational * policy.num_tasks) if policy.num_variational else 0.0


def clipped_surrogate(ratio: Tensor, advantages: Tensor, clip_range: float) -> Tensor:
    """−min(r A, clip(r, 1 − ε, 1 + ε) A), eq. 7, per row; all have one shape."""
    return -torch.minimum(ratio * advantages, ratio.clamp(1.0 - clip_range, 1.0 + clip_range) * advantages)


def squared_error(values: Tensor, returns: Tensor, old_values: Tensor, clip_range: float | None) -> Tensor:
    """(V − R)² per row; with a clip_range the larger of this and that of V kept so close to its old value."""
    error = (values - returns).square()
    if clip_range is None:
        return error
    kept = old_values + (values - old_values).clamp(-clip_range, clip_range)
    return torch.maximum(error, (kept - returns).square())


def approximate_kl(log_ratio: Tensor) -> Tensor:
    """Estimate of KL(old ‖ new) per row, (r − 1) − ln r: unbiased and ≥ 0 (Schulman, "Approximating KL divergence")."""
    return log_ratio.expm1() - log_ratio


def policy_kl(log_ratio: Tensor, weight: Tensor) -> Tensor:
    """The same in nats, summed over the last two axes, groups and rows."""
    return (weight * approximate_kl(log_ratio)).sum((-2, -1))
