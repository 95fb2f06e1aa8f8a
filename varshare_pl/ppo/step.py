"""Gradient steps, from minibatches to new weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from varshare_pl.errors import NonFiniteError
from varshare_pl.gradients import accumulate
from varshare_pl.parallel import all_mean, average_
from varshare_pl.policy.actor_critic import ActorCritic
from varshare_pl.ppo.losses import approximate_kl
from varshare_pl.ppo.objective import Losses, Objective, Seeds
from varshare_pl.ppo.optimizer import FlatAdam, GradientNorms, clip_gradients
from varshare_pl.sharing.base import Noise
from varshare_pl.types import Minibatch


class Work(NamedTuple):
    """What one gradient step is taken on."""

    batch: Minibatch
    actor_noise: Sequence[Noise] | None
    critic_noise: Sequence[Noise] | None


Differentiate = Callable[[float, float], None]
"""Fills the optimizer's gradient; takes what the loss is to be multiplied with, and what the KL weighs in it."""


@dataclass(frozen=True)
class Taken:
    """What the K gradient steps of an update left behind."""

    losses: Losses  # of before each step, detached, with a leading axis of K; K + 1 if stopped early
    weights: Tensor  # (K, G, R), of the minibatches' rows
    norms: list[GradientNorms]
    stopped_early: bool


class GradientStep:
    """Backward, the mean over processes, clipping, and the optimizer's step.

    Args:
        policy: Is trained.
        objective: Gives and weighs the losses.
        optimizer: Of the policy, from ``build_optimizer``.
        max_grad_norm: Of actor and critic each; None: no clipping.
        scaler: Of the loss, in 16-bit training.
        advance: What steps the optimizer, where that is more than to call it.
    """

    def __init__(
        self,
        policy: ActorCritic,
        objective: Objective,
        optimizer: FlatAdam,
        max_grad_norm: float | None,
        scaler: Any = None,
        advance: Callable[[], Any] | None = None,
    ) -> None:
        optimizer.tie()  # something may have moved the parameters since they were made views
        self.optimizer = optimizer
        self._policy = policy
        self._objective = objective
        self._seeds = Seeds(objective)
        self._max_grad_norm = max_grad_norm
        self._scaler = scaler
        self._advance = advance or optimizer.advance

    def take(self, work: Iterable[Work], rollout: int, target_kl: float | None, kl_scale: float | None = None) -> Taken:
        """One step after the other.

        Args:
            work: A step's minibatch and noise, each asked for when the one before is done.
            rollout: For the message of an error.
            target_kl: Stop before the step at which the policy KL exceeds this; None: do not.
            kl_scale: What the KL to the prior weighs in this rollout; None: as the objective says.

        Raises:
            NonFiniteError: before the optimizer's step, if a gradient is not finite.
        """
        kept: list[Losses] = []
        weights: list[Tensor] = []
        norms: list[GradientNorms] = []
        stopped_early = False
        kl_scale = self._objective.kl_scale(self._policy) if kl_scale is None else kl_scale
        for item in work:
            losses, differentiate = self._evaluate(item)
            weight = item.batch.weight
            kept.append(losses)
            weights.append(weight)
            if target_kl is not None and bool(all_mean(policy_kl(losses.log_ratio, weight)) > target_kl):
                stopped_early = True
                break
            try:
                norms.append(self._step(differentiate, kl_scale))
            except NonFiniteError as fault:
                parts = non_finite_parts(self._objective, self._policy, losses)
                raise NonFiniteError(f"{fault} {place(rollout, len(norms))}; {parts}") from fault
        losses = Losses(*(torch.stack(column) for column in zip(*kept, strict=True)))
        return Taken(losses, torch.stack(weights), norms, stopped_early)

    def _step(self, differentiate: Differentiate, kl_scale: float) -> GradientNorms:
        """Take one step; gives the norms of the gradients before clipping."""
        self.optimizer.zero_grad()
        scaler = self._scaler
        differentiate(1.0 if scaler is None else float(scaler.scale(self.optimizer.gradient.new_ones(()))), kl_scale)
        if scaler is not None:
            scaler.unscale_(self.optimizer)  # it is the gradient itself that is clipped
        norms = clip_gradients(self.optimizer, self._max_grad_norm, None if scaler is None else scaler.get_scale())
        self._advance()
        return norms

    def _evaluate(self, work: Work) -> tuple[Losses, Differentiate]:
        """The losses, and what fills the optimizer's gradient, which is 0, with that of all processes."""
        losses, pullback = self._objective.with_pullback(self._policy, *work)

        def differentiate(scale: float, kl_scale: float) -> None:
            seeds = self._seeds(losses.sums)
            accumulate(pullback(seeds if scale == 1.0 else seeds * scale, kl_scale * scale))
            average_(self.optimizer.gradient)

        return losses, differentiate


def policy_kl(log_ratio: Tensor, weight: Tensor) -> Tensor:
    """Estimate of KL(old policy ‖ new policy) in nats, summed over the last two axes, groups and rows."""
    return (weight * approximate_kl(log_ratio)).sum((-2, -1))


def place(rollout: int, step: int) -> str:
    """Where in the run a gradient step is."""
    return f"in rollout {rollout}, gradient step {step} of its update"


def non_finite_parts(objective: Objective, policy: ActorCritic, losses: Losses) -> str:
    """Which parts of the loss are not finite."""
    names = ("policy", "value", "entropy", "kl", "log_ratio")
    named = {"total": objective.total(policy, losses), **{name: getattr(losses, name) for name in names}}
    bad = [name for name, part in named.items() if not bool(all_mean(part.detach().sum()).isfinite())]
    return f"not finite in the loss: {', '.join(bad)}" if bad else "every part of the loss is finite"
