"""One PPO update, from a rollout to gradient steps: plain functions.

The LightningModule supplies the optimizer step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean
from typing import Protocol

import torch
from torch import Tensor

from varshare_pl.groups import TaskGroups
from varshare_pl.parallel import all_max, all_mean, all_means
from varshare_pl.policy.actor_critic import ActorCritic
from varshare_pl.ppo import stored_noise
from varshare_pl.ppo.advantages import AdvantageNorm, normalise_advantages
from varshare_pl.ppo.behaviour import ActorNoise, rollout_noise
from varshare_pl.ppo.critic_noise import CriticDraws, CriticNoise
from varshare_pl.ppo.objective import Objective
from varshare_pl.ppo.optimizer import FlatAdam, GradientNorms
from varshare_pl.ppo.step import Taken, Work, policy_kl
from varshare_pl.random import stream
from varshare_pl.rollout.gae import gae
from varshare_pl.rollout.minibatches import Minibatches, Rows, task_weights
from varshare_pl.sharing.base import Noise
from varshare_pl.types import Rollout


@dataclass(frozen=True)
class UpdateOptions:
    """How a rollout is turned into gradient steps."""

    epochs: int
    num_minibatches: int
    gamma: float
    gae_lambda: float
    advantage_norm: AdvantageNorm
    actor_noise: ActorNoise
    critic_noise: CriticNoise
    target_kl: float | None
    seed: int


class TakesSteps(Protocol):
    """Takes gradient steps; ``GradientStep.take`` says what it does."""

    optimizer: FlatAdam

    def take(self, work: Iterable[Work], rollout: int, target_kl: float | None, kl_scale: float | None = None) -> Taken:
        """One step after the other."""
        ...


@dataclass(frozen=True)
class LossTerms:
    """Unweighted parts of the loss, means over gradient steps."""

    total: Tensor  # () weighted sum of all parts, as minimised
    policy: Tensor  # (M,) each task's share of the clipped surrogate, 0 for a task without rows
    value: Tensor  # (M,) each task's share of the squared error
    entropy: Tensor  # () nats
    kl: Tensor  # () the weighted KL term as it stands in the loss
    policy_kl: Tensor  # () estimate of KL(old policy ‖ new policy), nats
    clip_fraction: Tensor  # () share of ratios outside 1 ± clip_range


@dataclass(frozen=True)
class UpdateResult:
    """Means over the gradient steps of one update, and over the rows of all processes."""

    terms: LossTerms
    gradient_norms: GradientNorms
    first_ratio_deviation: float  # largest |ratio − 1| in the first minibatch, before any step
    present: Tensor  # (M,) bool, the tasks that have rows
    steps: int
    stopped_early: bool


@torch.no_grad()
def evaluate_values(policy: ActorCritic, rollout: Rollout, groups: TaskGroups) -> tuple[Tensor, Tensor]:
    """V of each observation and of the one that followed it, (T, N) each, at the critic's posterior mean, in raw units.

    The successor of a truncated step is the final observation of its episode, not the next episode's first.
    """
    critic, shape = policy.critic, rollout.rewards.shape
    stacked = groups.group(rollout.obs.flatten(0, 1).flatten(1))
    outputs = groups.ungroup(critic.compute(critic.prepare(groups.group_task), stacked)).view(shape)
    values = policy.values(outputs, rollout.task)
    last = policy.values(critic(rollout.last_obs.flatten(1), rollout.last_task).view(1, -1), rollout.last_task)
    next_values = torch.cat([values[1:], last])
    if rollout.truncated.any():
        cut = rollout.truncated
        task = rollout.task[cut]
        next_values[cut] = policy.values(critic(rollout.final_obs[cut].flatten(1), task).squeeze(-1), task)
    return values, next_values


@torch.no_grad()
def build_rows(policy: ActorCritic, rollout: Rollout, options: UpdateOptions) -> tuple[Rows, TaskGroups]:
    """The rows that an update learns from, values and value targets in raw units, and their task groups."""
    task = rollout.task.flatten()
    groups = TaskGroups.from_rows(task, policy.num_tasks)
    values, next_values = evaluate_values(policy, rollout, groups)
    advantages = gae(
        rollout.rewards,
        values,
        next_values,
        rollout.terminated,
        rollout.truncated,
        options.gamma,
        options.gae_lambda,
    )
    actions = rollout.actions.flatten(0, 1)
    rows = {
        "task": task,
        "obs": rollout.obs.flatten(0, 1).flatten(1),
        "actions": actions,
        "log_prob": policy.head.log_prob(rollout.dist_params.flatten(0, 1), actions),
        "values": values.flatten(),
        "advantages": normalise_advantages(advantages.flatten(), task, policy.num_tasks, options.advantage_norm),
        "returns": (advantages + values).flatten(),
    }
    if options.actor_noise == "stored":
        rows["noise"] = stored_noise.take_off(policy.actor, rollout.noise.flatten(0, 1))[1]
    return rows, groups


def update(
    policy: ActorCritic,
    rows: Rows,
    groups: TaskGroups,
    rollout: int,
    objective: Objective,
    options: UpdateOptions,
    step: TakesSteps,
) -> UpdateResult:
    """Epochs of minibatch steps on the rows of one rollout.

    Args:
        policy: Is updated in place, by step.
        rows: From ``build_rows``.
        groups: From ``build_rows``.
        rollout: Index of the rollout; its noise and the order of rows hang on it.
        objective: The loss, with the KL's weight of this rollout.
        options: See ``UpdateOptions``.
        step: Takes the gradient steps.
    """
    row_weight = task_weights(rows["task"], policy.num_tasks)
    work = _work(policy, rows, groups, row_weight, rollout, options)
    taken = step.take(work, rollout, options.target_kl, objective.kl_scale(policy))
    first_deviation = taken.losses.log_ratio[0].expm1().abs().max()
    return UpdateResult(
        terms=_mean_terms(objective, policy, taken, groups),
        gradient_norms=_mean_norms(taken.norms),
        first_ratio_deviation=float(all_max(first_deviation)),
        present=row_weight > 0,
        steps=len(taken.norms),
        stopped_early=taken.stopped_early,
    )


def _work(
    policy: ActorCritic, rows: Rows, groups: TaskGroups, row_weight: Tensor, rollout: int, options: UpdateOptions
) -> Iterator[Work]:
    noise: Sequence[Noise] | None = rollout_noise(policy, options.actor_noise, options.seed, rollout)
    fresh = stream(options.seed, "fresh_noise/update", rollout)
    of_critic = CriticDraws(policy.critic, options.critic_noise, options.seed, rollout)
    minibatches = Minibatches(rows, groups, options.num_minibatches, row_weight)
    order = stream(options.seed, "minibatches", rollout)
    for batch in chain.from_iterable(minibatches.epoch(order) for _ in range(options.epochs)):
        if options.actor_noise == "fresh":
            noise = policy.actor.draw_weight_noise(fresh)
        elif batch.noise is not None:
            noise = stored_noise.split(policy.actor, batch.noise)
        yield Work(batch, noise, of_critic(*batch.weight.shape))


def _mean_terms(objective: Objective, policy: ActorCritic, taken: Taken, groups: TaskGroups) -> LossTerms:
    """Means over gradient steps, all at once: step by step they would cost as much as the step itself."""
    losses, log_ratio, weight = taken.losses, taken.losses.log_ratio, taken.weights
    deviation = log_ratio.expm1().abs()
    means = {
        "total": objective.total(policy, losses),
        "entropy": losses.entropy.sum(1),
        "kl": objective.kl_scale(policy) * losses.kl.sum(1),
        "policy_kl": policy_kl(log_ratio, weight),
        "clip_fraction": (weight * (deviation > objective.clip_range)).sum((1, 2)),
    }
    means = {name: values.mean(0) for name, values in means.items()}
    for name, part in (("policy", losses.policy), ("value", losses.value)):
        # Processes may hold different tasks; by task they can be added up.
        means[name] = part.new_zeros(policy.num_tasks).index_copy_(0, groups.group_task, part.mean(0))
    return LossTerms(**all_means(means))


def _mean_norms(norms: list[GradientNorms]) -> GradientNorms:
    # Under a loss scale a norm may be infinite; its step was skipped.
    actor, critic = (
        [n for n in column if math.isfinite(n)] for column in (zip(*norms, strict=True) if norms else ([], []))
    )
    return (fmean(actor) if actor else math.nan), (fmean(critic) if critic else math.nan)


@torch.no_grad()
def noise_ratio_std(policy: ActorCritic, rows: Rows, groups: TaskGroups, rollout: int, seed: int) -> float | None:
    """Standard deviation of the ratio between two draws of weight noise at equal weights: what "fresh" would inject.

    None where the method has no noise.
    """
    generator = stream(seed, "noise_ratio", rollout)
    obs, actions = groups.group(rows["obs"]), groups.group(rows["actions"])
    log_probs = []
    for _ in range(2):
        noise = policy.actor.draw_weight_noise(generator)
        if all(eps is None for eps in noise):
            return None
        params = policy.actor.compute(policy.actor.prepare(groups.group_task, noise), obs)
        log_probs.append(groups.ungroup(policy.head.log_prob(params, actions)))
    ratio = (log_probs[0] - log_probs[1]).exp()
    mean = all_mean(ratio.mean())
    return float(all_mean((ratio - mean).square().mean()).sqrt())


def explained_variance(values: Tensor, returns: Tensor) -> float:
    """1 − Var(R − V) / Var(R); 1 is perfect, 0 no better than a constant, NaN where R is constant."""
    columns = torch.stack([returns, returns - values])
    if columns.device.type != "mps":  # Apple's GPUs have no float64
        columns = columns.double()
    mean = all_mean(columns.mean(1, keepdim=True))  # every process has as many rows
    variance, left = all_mean((columns - mean).square().mean(1)).tolist()
    return 1.0 - left / variance if variance > 0 else float("nan")
