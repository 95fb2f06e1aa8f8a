"""One PPO update, from a rollout to gradient steps: plain functions.

The LightningModule supplies the optimizer step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from varshare_pl.errors import NonFiniteError
from varshare_pl.groups import TaskGroups
from varshare_pl.parallel import all_max, all_mean, all_means, rank
from varshare_pl.policy.actor_critic import ActorCritic
from varshare_pl.ppo.advantages import AdvantageNorm, normalise_advantages
from varshare_pl.ppo.behaviour import ActorNoise, rollout_noise
from varshare_pl.ppo.objective import LossTerms, Objective
from varshare_pl.random import stream
from varshare_pl.rollout.gae import gae
from varshare_pl.rollout.minibatches import Rows, epoch, task_weights
from varshare_pl.types import Minibatch, Rollout

GradientNorms = tuple[Tensor, Tensor]
"""Norms of the actor's and the critic's gradients before clipping."""


@dataclass(frozen=True)
class UpdateOptions:
    """How a rollout is turned into gradient steps."""

    epochs: int
    num_minibatches: int
    gamma: float
    gae_lambda: float
    advantage_norm: AdvantageNorm
    actor_noise: ActorNoise
    target_kl: float | None
    seed: int


@dataclass(frozen=True)
class UpdateResult:
    """Means over the gradient steps of one update, and over the rows of all processes."""

    terms: LossTerms  # policy and value are (M,): each task's share, 0 for a task without rows
    gradient_norms: GradientNorms
    first_ratio_deviation: float  # largest |ratio − 1| in the first minibatch, before any step
    present: Tensor  # (M,) bool, the tasks that have rows
    steps: int
    stopped_early: bool


@torch.no_grad()
def evaluate_values(policy: ActorCritic, rollout: Rollout, groups: TaskGroups) -> tuple[Tensor, Tensor]:
    """V of each observation and of the one that followed it, (T, N) each, at the critic's posterior mean.

    The successor of a truncated step is the final observation of its episode, not the next episode's first.
    """
    critic, shape = policy.critic, rollout.rewards.shape
    stacked = groups.group(rollout.obs.flatten(0, 1).flatten(1))
    values = groups.ungroup(critic.compute(critic.prepare(groups.group_task), stacked)).view(shape)
    last = critic(rollout.last_obs.flatten(1), rollout.last_task).view(1, -1)
    next_values = torch.cat([values[1:], last])
    if rollout.truncated.any():
        cut = rollout.truncated
        next_values[cut] = critic(rollout.final_obs[cut].flatten(1), rollout.task[cut]).squeeze(-1)
    return values, next_values


@torch.no_grad()
def build_rows(policy: ActorCritic, rollout: Rollout, options: UpdateOptions) -> tuple[Rows, TaskGroups]:
    """The rows that an update learns from, and their task groups."""
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
    return rows, groups


def update(
    policy: ActorCritic,
    rows: Rows,
    groups: TaskGroups,
    rollout: int,
    objective: Objective,
    options: UpdateOptions,
    step: Callable[[Tensor], GradientNorms],
) -> UpdateResult:
    """Epochs of minibatch steps on the rows of one rollout.

    Args:
        policy: Is updated in place, by step.
        rows: From ``build_rows``.
        groups: From ``build_rows``.
        rollout: Index of the rollout; its noise and the order of rows hang on it.
        objective: The loss.
        options: See ``UpdateOptions``.
        step: Takes a loss, does backward, clipping and the optimizer's step, gives the gradient norms.
    """
    noise = rollout_noise(policy, options.actor_noise, options.seed, rollout)
    fresh = stream(options.seed, "fresh_noise/update", rollout)
    critic_stream = stream(options.seed, "critic_noise", rollout, rank())  # rows differ between processes
    row_weight = task_weights(rows["task"], policy.num_tasks)
    terms: list[LossTerms] = []
    norms: list[GradientNorms] = []
    stopped_early = False
    for batch in _minibatches(rows, groups, row_weight, rollout, options):
        if options.actor_noise == "fresh":
            noise = policy.actor.draw_weight_noise(fresh)
        critic_noise = policy.critic.draw_local_noise(len(batch.weight), batch.weight.shape[1], critic_stream)
        loss, parts = objective(policy, batch, noise, critic_noise)
        terms.append(parts)
        if options.target_kl is not None and bool(all_mean(parts.policy_kl) > options.target_kl):
            stopped_early = True
            break
        try:
            norms.append(step(loss))
        except NonFiniteError as fault:
            where = f"in rollout {rollout}, gradient step {len(norms)} of its update"
            raise NonFiniteError(f"{fault} {where}; {_non_finite(parts)}") from fault
    return UpdateResult(
        terms=_mean_terms(terms, groups, policy.num_tasks),
        gradient_norms=_mean_norms(norms, terms[0].total),
        first_ratio_deviation=float(all_max(terms[0].ratio_deviation)),
        present=row_weight > 0,
        steps=len(norms),
        stopped_early=stopped_early,
    )


def _minibatches(
    rows: Rows, groups: TaskGroups, row_weight: Tensor, rollout: int, options: UpdateOptions
) -> Iterator[Minibatch]:
    order = stream(options.seed, "minibatches", rollout)
    for _ in range(options.epochs):
        yield from epoch(rows, groups, options.num_minibatches, order, row_weight)


def _non_finite(terms: LossTerms) -> str:
    """Which parts of the loss are not finite."""
    bad = [f.name for f in fields(LossTerms) if not bool(all_mean(getattr(terms, f.name).sum()).isfinite())]
    return f"not finite in the loss: {', '.join(bad)}" if bad else "every part of the loss is finite"


def _mean_terms(terms: list[LossTerms], groups: TaskGroups, num_tasks: int) -> LossTerms:
    means = {f.name: torch.stack([getattr(t, f.name) for t in terms]).mean(0) for f in fields(LossTerms)}
    for name in ("policy", "value"):
        # Processes may hold different tasks; by task they can be added up.
        means[name] = means[name].new_zeros(num_tasks).index_copy_(0, groups.group_task, means[name])
    return LossTerms(**all_means(means))


def _mean_norms(norms: list[GradientNorms], like: Tensor) -> GradientNorms:
    if not norms:
        return like.new_tensor(torch.nan), like.new_tensor(torch.nan)
    actor, critic = (torch.stack(column) for column in zip(*norms, strict=True))
    # Under a loss scale a norm may be infinite; its step was skipped.
    return actor[actor.isfinite()].mean(), critic[critic.isfinite()].mean()


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
