"""The objective: the one place where PPO's losses and the KL are weighed and added.

    L = mean over tasks of [ L_policy,m + c_V L_value,m − c_H H_m + (β̃ / P) · KL_m ]

β̃ is ``kl_weight`` and P the number of variational weights of one task, so that kl_weight means the same at every width
and for every number of tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from varshare_pl.gradients import Cotangent
from varshare_pl.parallel import rank, world_size
from varshare_pl.policy.actor_critic import ActorCritic
from varshare_pl.ppo.losses import weighted_losses, weighted_losses_with_pullback
from varshare_pl.ppo.schedules import KLSchedule, kl_factor
from varshare_pl.sharing.base import Noise
from varshare_pl.types import Minibatch

LossPullback = Callable[[Tensor, float], list[Cotangent]]
"""Takes the gradients of ``Losses.sums`` (3, G), and of each task's KL, to the parameters."""


class Losses(NamedTuple):
    """The parts of the loss of a minibatch, or of K ones with a leading axis (K, …), unweighted.

    Sums over groups are means over tasks.
    """

    sums: Tensor  # (3, G) each group's share of the clipped surrogate, of the squared error and of the entropy (nats)
    kl: Tensor  # (M,) KL to the prior of each task's weights, nats
    log_ratio: Tensor  # (G, R) ln of the PPO ratio, detached

    @property
    def policy(self) -> Tensor:
        """(G,)."""
        return self.sums[..., 0, :]

    @property
    def value(self) -> Tensor:
        """(G,)."""
        return self.sums[..., 1, :]

    @property
    def entropy(self) -> Tensor:
        """(G,)."""
        return self.sums[..., 2, :]


@dataclass(frozen=True)
class Objective:
    """The loss of a minibatch.

    Attributes:
        clip_range: ε of the clipped surrogate.
        value_clip_range: Keeps new values this close to the old ones in the value loss; None: off.
        value_coef: c_V.
        entropy_coef: c_H.
        kl_weight: β̃.
        kl_schedule: How β̃ changes over a run.
    """

    clip_range: float
    value_clip_range: float | None
    value_coef: float
    entropy_coef: float
    kl_weight: float
    kl_schedule: KLSchedule = "constant"

    def at(self, fraction: float) -> Objective:
        """The objective with the β̃ that holds when this fraction of training is done."""
        factor = kl_factor(self.kl_schedule, fraction)
        return self if factor == 1.0 else replace(self, kl_weight=self.kl_weight * factor, kl_schedule="constant")

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
        sums, log_ratio = self.data_terms(policy, batch, actor_noise, critic_noise)
        return Losses(sums, policy.kl(), log_ratio)

    @torch.no_grad()
    def with_pullback(
        self,
        policy: ActorCritic,
        batch: Minibatch,
        actor_noise: Sequence[Noise] | None,
        critic_noise: Sequence[Noise] | None,
    ) -> tuple[Losses, LossPullback]:
        """The same without autograd's graph, and its pullback; the arguments are those of a call.

        The KL is this process's part of it, see ``Torso.kl_with_pullback``.
        """
        group_task, obs = batch.group_task, batch.obs
        params, to_actor = policy.actor.with_pullback(group_task, actor_noise, obs)
        values, to_critic = policy.critic.with_pullback(group_task, critic_noise, obs)
        log_prob, entropy, to_params = policy.head.log_prob_and_entropy_with_pullback(params, batch.actions)
        log_ratio = log_prob - batch.log_prob
        rows = log_ratio, entropy, values.squeeze(-1)
        sums, to_rows = weighted_losses_with_pullback(rows, batch, self.clip_range, self.value_clip_range)
        kl, to_variational = policy.kl_with_pullback(rank(), world_size())

        @torch.no_grad()
        def pullback(of_sums: Tensor, of_kl: float) -> list[Cotangent]:
            of_log_ratio, of_entropy, of_values = to_rows(of_sums)
            found = to_actor(to_params(of_log_ratio, of_entropy)) + to_critic(of_values.unsqueeze(-1))
            return found + to_variational(of_kl) if of_kl else found

        return Losses(sums, kl, log_ratio), pullback

    def data_terms(
        self,
        policy: ActorCritic,
        batch: Minibatch,
        actor_noise: Sequence[Noise] | None,
        critic_noise: Sequence[Noise] | None,
    ) -> tuple[Tensor, Tensor]:
        """``sums`` and ``log_ratio`` of the losses, without the KL; the arguments are those of a call."""
        params = policy.actor.compute(policy.actor.prepare(batch.group_task, actor_noise), batch.obs)
        log_prob, entropy = policy.head.log_prob_and_entropy(params, batch.actions)
        log_ratio = log_prob - batch.log_prob
        values = policy.critic.compute(policy.critic.prepare(batch.group_task, critic_noise), batch.obs).squeeze(-1)
        sums = weighted_losses(log_ratio, entropy, values, batch, self.clip_range, self.value_clip_range)
        return sums, log_ratio.detach()

    def weights(self) -> tuple[float, float, float]:
        """What policy, value and entropy weigh in the loss."""
        return 1.0, self.value_coef, -self.entropy_coef

    def kl_scale(self, policy: ActorCritic) -> float:
        """What the KL of one task, in nats, weighs in the loss: β̃ / (P M)."""
        return self.kl_weight / (policy.num_variational * policy.num_tasks) if policy.num_variational else 0.0

    def total(self, policy: ActorCritic, losses: Losses, kl_scale: float | Tensor | None = None) -> Tensor:
        """The loss, () or (K,); with kl_scale in place of the objective's own, if given."""
        kl_scale = self.kl_scale(policy) if kl_scale is None else kl_scale
        policy_loss, value, entropy = losses.sums.sum(-1).unbind(-1)
        weighed = policy_loss + self.value_coef * value - self.entropy_coef * entropy
        return weighed + kl_scale * losses.kl.sum(-1)


class Seeds:
    """What the gradient of a loss starts from: what each of its ``sums`` weighs in it.

    Args:
        objective: Weighs them.
    """

    def __init__(self, objective: Objective) -> None:
        self._weights = objective.weights()
        self._kept: dict[torch.Size, Tensor] = {}

    def __call__(self, sums: Tensor) -> Tensor:
        """In the shape of the sums, (3, G)."""
        if sums.shape not in self._kept:
            self._kept[sums.shape] = torch.stack([torch.full_like(sums[0], weight) for weight in self._weights])
        return self._kept[sums.shape]
