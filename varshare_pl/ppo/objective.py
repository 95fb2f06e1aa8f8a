"""The objective: the one place where PPO's losses and the KL are weighed and added.

    L = mean over tasks of [ L_policy,m + c_V L_value,m − c_H H_m + (β̃ / P) · KL_m ]

β̃ is ``kl_weight`` and P the number of variational weights of one task, so that kl_weight means the same at every width
and for every number of tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from varshare_pl.policy.actor_critic import ActorCritic
from varshare_pl.ppo.losses import approximate_kl, clipped_squared_error, clipped_surrogate, squared_error
from varshare_pl.sharing.base import Noise
from varshare_pl.types import Minibatch


@dataclass(frozen=True)
class LossTerms:
    """Unweighted parts of the loss of one minibatch, detached. Sums over groups are means over tasks."""

    total: Tensor  # () weighted sum of all parts, as minimised
    policy: Tensor  # (G,) each group's share of the clipped surrogate
    value: Tensor  # (G,) each group's share of the squared error
    entropy: Tensor  # () nats
    kl: Tensor  # () the weighted KL term as it stands in the loss
    policy_kl: Tensor  # () estimate of KL(old policy ‖ new policy), nats
    clip_fraction: Tensor  # () share of ratios outside 1 ± clip_range
    ratio_deviation: Tensor  # () largest |ratio − 1| of a row


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
    ) -> tuple[Tensor, LossTerms]:
        """Loss to differentiate, and its parts.

        Args:
            policy: The actor-critic.
            batch: Rows grouped by task.
            actor_noise: The noise that acted, a draw per layer; None for the posterior mean.
            critic_noise: The critic's noise; None for the posterior mean.
        """
        weight = batch.weight
        params = policy.actor.compute(policy.actor.prepare(batch.group_task, actor_noise), batch.obs)
        log_prob, entropy_rows = policy.head.log_prob_and_entropy(params, batch.actions)
        log_ratio = log_prob - batch.log_prob
        ratio = log_ratio.exp()
        policy_loss = (weight * clipped_surrogate(ratio, batch.advantages, self.clip_range)).sum(1)

        values = policy.critic.compute(policy.critic.prepare(batch.group_task, critic_noise), batch.obs).squeeze(-1)
        value_loss = (weight * self._value_error(values, batch)).sum(1)

        entropy = (weight * entropy_rows).sum()
        total = policy_loss.sum() + self.value_coef * value_loss.sum() - self.entropy_coef * entropy
        kl = total.new_zeros(())
        if policy.num_variational:
            kl = self.kl_weight / policy.num_variational * policy.kl().mean()
            total = total + kl

        log_ratio, ratio = log_ratio.detach(), ratio.detach()
        deviation = (ratio - 1.0).abs()
        return total, LossTerms(
            total=total.detach(),
            policy=policy_loss.detach(),
            value=value_loss.detach(),
            entropy=entropy.detach(),
            kl=kl.detach(),
            policy_kl=(weight * approximate_kl(log_ratio)).sum(),
            clip_fraction=(weight * (deviation > self.clip_range)).sum(),
            ratio_deviation=deviation.max(),
        )

    def _value_error(self, values: Tensor, batch: Minibatch) -> Tensor:
        if self.value_clip_range is None:
            return squared_error(values, batch.returns)
        return clipped_squared_error(values, batch.values, batch.returns, self.value_clip_range)
