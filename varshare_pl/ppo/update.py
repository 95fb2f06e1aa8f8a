"""One PPO update, from a rollout to gradient steps: values, advantages, minibatches, losses, optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import torch
from torch import Tensor

from varshare_pl.errors import NonFiniteError
from varshare_pl.learning.optimizer import GradientNorms, PolicyAdam, average_gradients, clip_gradients
from varshare_pl.learning.weight_noise import ActorNoise, CriticNoise, StoredNoise
from varshare_pl.networks.actor_critic import ActorCritic
from varshare_pl.networks.groups import TaskGroups
from varshare_pl.parallel import all_mean
from varshare_pl.ppo.losses import Losses, StepInput, compute_losses, policy_kl, total_loss
from varshare_pl.ppo.options import PPOOptions
from varshare_pl.random import stream
from varshare_pl.rollout.advantages import gae, normalise_advantages
from varshare_pl.rollout.minibatches import Rows, minibatches
from varshare_pl.types import Rollout


@torch.no_grad()
def build_rows(
    policy: ActorCritic, rollout: Rollout, options: PPOOptions, actor_noise: ActorNoise | None = None
) -> tuple[Rows, TaskGroups]:
    """The rows that an update learns from, values and value targets in raw units, and their task groups.

    Args:
        policy: Evaluates the observations.
        rollout: What was collected.
        options: Discount, λ and normalisation of advantages.
        actor_noise: What acted; None: the posterior mean.
    """
    task, actions = rollout.task.flatten(), rollout.actions.flatten(0, 1)
    obs, values, next_values = evaluate(policy, rollout)
    ends = rollout.terminated, rollout.truncated
    advantages = gae(rollout.rewards, values, next_values, *ends, options.gamma, options.gae_lambda)
    rows = {"task": task, "obs": obs, "actions": actions, "values": values.flatten()}
    rows["returns"] = (advantages + values).flatten()
    rows["log_prob"] = policy.distribution.log_prob(rollout.dist_params.flatten(0, 1), actions)
    rows["advantages"] = normalise_advantages(advantages.flatten(), task, policy.num_tasks, options.advantage_norm)
    if isinstance(actor_noise, StoredNoise):
        rows["noise"] = rollout.noise.flatten(0, 1)[:, -actor_noise.row_size :].to(policy.dtype)
    return rows, TaskGroups.from_rows(task, policy.num_tasks)


@torch.no_grad()
def evaluate(policy: ActorCritic, rollout: Rollout) -> tuple[Tensor, Tensor, Tensor]:
    """The encoded observations (T · N, obs_size), V of each and V of the one that followed it, (T, N).

    V is that of the critic's posterior mean, in raw units. The successor of a truncated step is the final observation
    of its episode, not the next episode's first.
    """
    cut, (steps, envs) = rollout.truncated, rollout.rewards.shape
    task = torch.cat([rollout.task.flatten(), rollout.last_task, rollout.task[cut]])
    obs = policy.encode(torch.cat([rollout.obs.flatten(0, 1), rollout.last_obs, rollout.final_obs[cut]]), task)
    groups = TaskGroups.from_rows(task, policy.num_tasks)
    outputs = groups.ungroup(policy.critic_outputs(groups.group_task, None, groups.group(obs)))
    in_time, at_cuts = policy.values(outputs, task).tensor_split([(steps + 1) * envs])
    values = in_time.view(steps + 1, envs)
    return obs[: steps * envs], values[:-1], values[1:].masked_scatter(cut, at_cuts)


def step_inputs(
    rows: Rows,
    groups: TaskGroups,
    row_weight: Tensor,
    rollout: int,
    num_minibatches: int,
    options: PPOOptions,
    actor_noise: ActorNoise | None,
    critic_noise: CriticNoise | None,
    seed: int,
) -> Iterator[StepInput]:
    """The minibatches of all epochs, each with its noise.

    Args:
        rows: From ``build_rows``.
        groups: From ``build_rows``.
        row_weight: (M,) from ``task_weights``.
        rollout: Index of the rollout; noise and the order of rows are drawn from streams of it.
        num_minibatches: Of an epoch.
        options: Has the number of epochs.
        actor_noise: What acted; None: the posterior mean.
        critic_noise: Of the value loss; None: the posterior mean.
        seed: The run's.
    """
    order = stream(seed, "minibatches", rollout)
    epochs = (minibatches(rows, groups, num_minibatches, row_weight, order) for _ in range(options.update_epochs))
    for step, batch in enumerate(chain.from_iterable(epochs)):
        of_actor = None if actor_noise is None else actor_noise.learning(rollout, step, batch.noise)
        of_critic = None if critic_noise is None else critic_noise.learning(rollout, step, *batch.weight.shape)
        yield StepInput(batch, of_actor, of_critic)


@dataclass(frozen=True)
class StepsTaken:
    """What the K gradient steps of an update left behind."""

    losses: Losses  # those that each step was taken on, detached, with a leading axis of K; K + 1 if stopped early
    kl: Tensor | None  # (K, M) likewise, nats; None where nothing is variational
    weights: Tensor  # (K, G, R), of the minibatches' rows
    norms: list[GradientNorms]
    stopped_early: bool


class GradientSteps(Protocol):
    """What takes an update's gradient steps: ``PlainSteps``, or another one."""

    optimizer: PolicyAdam

    def run(self, inputs: Iterable[StepInput], kl_scale: float, rollout: int) -> StepsTaken:
        """One step after the other.

        Args:
            inputs: A step's minibatch and noise, each asked for when the one before is done.
            kl_scale: What a task's KL weighs in the loss, from ``losses.kl_scale``.
            rollout: Index of the rollout.

        Raises:
            NonFiniteError: before the optimizer's step, if a gradient is not finite.
        """
        ...


class PlainSteps:
    """Backward, the mean over processes, clipping, and the optimizer's step.

    Args:
        policy: The actor-critic, whose parameters are changed.
        optimizer: Of the policy, from ``build_optimizer``.
        options: Coefficients and limits.
        max_grad_norm: Of actor and critic each; None: no clipping.
        scaler: Of the loss, in 16-bit training.
        scaled_step: What steps the optimizer where there is a scaler.
    """

    def __init__(
        self,
        policy: ActorCritic,
        optimizer: PolicyAdam,
        options: PPOOptions,
        max_grad_norm: float | None,
        scaler: Any = None,
        scaled_step: Callable[[], Any] | None = None,
    ) -> None:
        self.policy = policy
        self.optimizer = optimizer
        self.options = options
        self.max_grad_norm = max_grad_norm
        self._scaler = scaler
        self._scaled_step = scaled_step

    def run(self, inputs: Iterable[StepInput], kl_scale: float, rollout: int) -> StepsTaken:
        """See ``GradientSteps``."""
        target_kl = self.options.target_kl
        kept: list[tuple[Tensor, ...]] = []
        norms: list[GradientNorms] = []
        for step in inputs:
            losses = self.compute(step)
            kl = self.policy.kl() if self.policy.num_variational else None
            kept.append((step.batch.weight, *(part.detach() for part in (*losses, kl) if part is not None)))
            if target_kl is not None and bool(all_mean(policy_kl(losses.log_ratio, step.batch.weight)) > target_kl):
                break
            try:
                norms.append(self.take(step, losses, kl, kl_scale))
            except NonFiniteError as fault:
                cause = non_finite_parts(losses, kl)
                raise NonFiniteError(f"{fault} {place(rollout, len(norms))}; {cause}") from fault
        weights, sums, log_ratios, *kls = (torch.stack(column) for column in zip(*kept, strict=True))
        return StepsTaken(Losses(sums, log_ratios), kls[0] if kls else None, weights, norms, len(norms) < len(kept))

    def compute(self, step: StepInput) -> Losses:
        """The parts of a minibatch's loss, to differentiate."""
        return compute_losses(self.policy, step, self.options)

    def take(self, step: StepInput, losses: Losses, kl: Tensor | None, kl_scale: float) -> GradientNorms:
        """One gradient step; gives the norms of the gradients before clipping."""
        self.differentiate(step, losses, kl, kl_scale)
        if self._scaler is not None:
            return self._scaled_take()
        norms = clip_gradients(self.optimizer, self.max_grad_norm)
        self.optimizer.step()
        return norms

    def _scaled_take(self) -> GradientNorms:
        assert self._scaled_step is not None
        self._scaler.unscale_(self.optimizer)  # it is the gradient itself that is clipped
        norms = clip_gradients(self.optimizer, self.max_grad_norm, self._scaler.get_scale())
        self._scaled_step()
        return norms

    def differentiate(self, step: StepInput, losses: Losses, kl: Tensor | None, kl_scale: float) -> None:
        """Set the gradients to those of the loss, over all processes."""
        total = total_loss(losses, kl, kl_scale, self.options)
        self.optimizer.differentiate(total if self._scaler is None else self._scaler.scale(total))
        average_gradients(self.optimizer)


def place(rollout: int, step: int) -> str:
    """Where in the run a gradient step is."""
    return f"in rollout {rollout}, gradient step {step} of its update"


def non_finite_parts(losses: Losses, kl: Tensor | None) -> str:
    """Which parts of the loss are not finite, over all processes."""
    names = ("policy", "value", "entropy", "log_ratio")
    named = {name: getattr(losses, name) for name in names} | ({} if kl is None else {"kl": kl})
    bad = [name for name, part in named.items() if not bool(all_mean(part.detach().sum()).isfinite())]
    return f"not finite in the loss: {', '.join(bad)}" if bad else "every part of the loss is finite"
