"""The objective: the one place where PPO's losses and the KL are weighed and added.

    L = mean over tasks of [ L_policy,m + c_V L_value,m − c_H H_m + (β̃ / P) · KL_m ]

β̃ is ``kl_weight`` and P the number of variational weights of one task, so that kl_weight means the same at every width
and for every number of tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from varshare_pl.policy.actor_critic import ActorCritic
from varshare_pl.ppo.losses import weighted_losses
from varshare_pl.sharing.base import Noise
from varshare_pl.types import Minibatch


class Losses(NamedTuple):
    """The parts of the loss of one minibatch, unweighted. Sums over groups are means over tasks."""

    policy: Tensor  # (G,) each group's share of the clipped surrogate
    value: Tensor  # (G,) each group's share of the squared error
    entropy: Tensor  # (G,) each group's share of the entropy, nats
    kl: Tensor  # (M,) KL to the prior of each task's weights, nats
    log_ratio: Tensor  # (G, R) ln of the PPO ratio, detached

    def parts(self) -> tuple[Tensor, ...]:
        """Those that have a weight in the loss."""
        return self[:4]


@dataclass(frozen=True)
class Objective:
    """The loss of a minibatch.

    Attributes:
        clip_range: ε of the clipped surrogate.
        value_clip_range: Keeps new values this close to the old ones in the value loss; None: off.
        value_coef: c_V.
        entropy_coef: c_H.
        kl_weight: β̃.
    """

    clip_range: float
    value_clip_range: float | None
    value_coef: float
    entropy_coef: float
    kl_weight: float

    def __call__(
        self,
        policy: ActorCritic,
        batch: Minibatch,
        actor_noise: Sequence[Noise] | None,
        critic_noise: Sequence[Noise] | None,
    ) -> Losses:
        """The parts to differentiate.

        Args:
            policy: The actor-critic.
            batch: Rows grouped by task.
            actor_noise: The noise that acted, a draw per layer; None for the posterior mean.
            critic_noise: The critic's noise; None for the posterior mean.
        """
        params = policy.actor.compute(policy.actor.prepare(batch.group_task, actor_noise), batch.obs)
        log_prob, entropy = policy.head.log_prob_and_entropy(params, batch.actions)
        log_ratio = log_prob - batch.log_prob
        values = policy.critic.compute(policy.critic.prepare(batch.group_task, critic_noise), batch.obs).squeeze(-1)
        losses = weighted_losses(log_ratio, entropy, values, batch, self.clip_range, self.value_clip_range)
        return Losses(*losses, kl=policy.kl(), log_ratio=log_ratio.detach())

    def weights(self, policy: ActorCritic) -> tuple[float, float, float, float]:
        """What the parts weigh in the loss, element by element."""
        kl = self.kl_weight / (policy.num_variational * policy.num_tasks) if policy.num_variational else 0.0
        return 1.0, self.value_coef, -self.entropy_coef, kl

    def total(self, policy: ActorCritic, parts: Sequence[Tensor]) -> Tensor:
        """The loss, () or of the parts' leading shape (…,)."""
        weighed = zip(self.weights(policy), parts, strict=True)
        return torch.stack([part.sum(-1) * weight for weight, part in weighed]).sum(0)


def backward(losses: Losses, weights: Sequence[float], scale: float = 1.0) -> None:
    """Add the gradient of the weighed sum of the parts, times scale, to the parameters' gradients."""
    parts, seeds = [], []
    for part, weight in zip(losses.parts(), weights, strict=True):
        if weight != 0.0 and part.requires_grad:
            parts.append(part)
            seeds.append(torch.full_like(part, weight * scale))
    torch.autograd.backward(parts, seeds)
