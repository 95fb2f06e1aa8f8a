"""Gradient steps with a gradient combiner.

The tasks' gradients of the shared parameters are combined, for actor and critic apart. What only one task's loss
depends on keeps its plain gradient, and so does the KL to the prior, which is added afterwards. A combiner that weighs
losses weighs the whole loss of a task.

A task's gradient comes from a forward and a backward of its rows alone. Together these are as many rows as the plain
step has; a backward of all rows for each task would be as many again for every task.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from varshare_pl.combiners import CombinerSpec, GradientCombiner, GradientRule, LossRule, TaskGradients
from varshare_pl.errors import ConfigError
from varshare_pl.learning.optimizer import GradientNorms, PolicyAdam, average_gradients
from varshare_pl.networks.actor_critic import ActorCritic
from varshare_pl.networks.layer import Noise
from varshare_pl.networks.size import shared_parameters
from varshare_pl.parallel import average_
from varshare_pl.ppo.losses import Losses, StepInput, compute_losses
from varshare_pl.ppo.options import PPOOptions
from varshare_pl.ppo.update import PlainSteps, StepsTaken
from varshare_pl.random import stream_seed
from varshare_pl.types import Minibatch

NETWORKS = ("actor", "critic")


class Combining:
    """A combiner's rules for actor and critic, which live as long as a run.

    Args:
        combiner: Makes the rules.
        policy: Whose gradients they combine.
        seed: The run's.

    Raises:
        ConfigError: if tasks share nothing, or there is one task only.
    """

    def __init__(self, combiner: GradientCombiner, policy: ActorCritic, seed: int) -> None:
        self.name = name = combiner_name(combiner)
        if policy.num_tasks == 1:
            raise ConfigError(f"model.combiner: {name} is not allowed with one task; null is")
        self.shared = {network: shared_parameters(policy, network) for network in NETWORKS}
        if not any(self.shared.values()):
            raise ConfigError(
                f"model.combiner: {name} is not allowed where tasks share no parameter, as in independent; null is"
            )
        self.rules = {network: combiner.make(CombinerSpec(network, policy.num_tasks)) for network in NETWORKS}
        self.per_task = any(isinstance(rule, GradientRule) for rule in self.rules.values())
        self._seed = seed

    def draw(self, network: str, rollout: int, step: int) -> int:
        """The seed of a rule's random numbers at a gradient step."""
        return stream_seed(self._seed, f"combiner/{network}", rollout, step)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {network: rule.state() for network, rule in self.rules.items()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up a checkpoint's."""
        for network, rule in self.rules.items():
            rule.load_state(state[network])


class CombinedSteps(PlainSteps):
    """Takes gradient steps like ``PlainSteps``, with the tasks' gradients combined.

    Args:
        policy: The actor-critic, whose parameters are changed.
        optimizer: Of the policy, from ``build_optimizer``.
        options: Coefficients and limits.
        max_grad_norm: Of actor and critic each, after combining; None: no clipping.
        combining: The rules.
    """

    def __init__(
        self,
        policy: ActorCritic,
        optimizer: PolicyAdam,
        options: PPOOptions,
        max_grad_norm: float | None,
        combining: Combining,
    ) -> None:
        super().__init__(policy, optimizer, options, max_grad_norm)
        self._combining = combining
        shared = {id(p) for parameters in combining.shared.values() for p in parameters}
        self._own = [p for network in optimizer.networks.values() for p in network if id(p) not in shared]
        self._rollout = self._number = 0
        self._by_group: list[Losses] = []  # of the step that is being taken, where each group's is computed apart

    def run(self, inputs: Iterable[StepInput], kl_scale: float, rollout: int) -> StepsTaken:
        """See ``GradientSteps``."""
        self._rollout, self._number = rollout, 0
        taken = super().run(inputs, kl_scale, rollout)
        for rule in self._combining.rules.values():
            rule.end_update()
        return taken

    def compute(self, step: StepInput) -> Losses:
        if not self._combining.per_task:
            return super().compute(step)
        groups = range(len(step.batch.group_task))
        self._by_group = [super(CombinedSteps, self).compute(one_group(step, group)) for group in groups]
        return Losses(
            torch.cat([part.sums for part in self._by_group], 1).detach(),
            torch.cat([part.log_ratio for part in self._by_group]),
        )

    def take(self, step: StepInput, losses: Losses, kl: Tensor | None, kl_scale: float) -> GradientNorms:
        norms = super().take(step, losses, kl, kl_scale)
        self._number += 1
        if any(isinstance(rule, LossRule) and rule.looks_again for rule in self._combining.rules.values()):
            with torch.no_grad():
                task_losses, present = self._task_losses(step.batch, compute_losses(self.policy, step, self.options))
            for network, rule in self._combining.rules.items():
                if isinstance(rule, LossRule):
                    rule.look_again(task_losses[network], present)
        return norms

    def differentiate(self, step: StepInput, losses: Losses, kl: Tensor | None, kl_scale: float) -> None:
        task_losses, present = self._task_losses(step.batch, losses)
        weights = {
            network: rule.weights(task_losses[network], present, self._draw(network)).to(losses.sums)
            if isinstance(rule, LossRule)
            else losses.sums.new_ones(self.policy.num_tasks)
            for network, rule in self._combining.rules.items()
        }
        group_weights = {network: weight[step.batch.group_task] for network, weight in weights.items()}
        if self._combining.per_task:
            self._combine(step.batch, group_weights, task_losses, present)
        else:
            self.optimizer.differentiate(self._weighed(losses, group_weights).sum())
            average_gradients(self.optimizer)
        if kl is not None and kl_scale:
            torch.autograd.backward(kl_scale * kl.sum())  # the same on all processes

    def _weighed(self, losses: Losses, weights: dict[str, Tensor]) -> Tensor:
        """(G,) each group's loss, the part of each network weighed by (G,)."""
        of_actor, of_critic = self._of_networks(losses)
        return weights["actor"] * of_actor + weights["critic"] * of_critic

    def _of_networks(self, losses: Losses) -> tuple[Tensor, Tensor]:
        """(G,) each: the actor's part of the loss, and the critic's."""
        of_actor = losses.policy - self.options.entropy_coef * losses.entropy
        return of_actor, self.options.value_coef * losses.value

    def _combine(
        self, batch: Minibatch, weights: dict[str, Tensor], task_losses: dict[str, Tensor], present: Tensor
    ) -> None:
        shared = self._combining.shared
        sizes = [sum(p.numel() for p in shared[network]) for network in NETWORKS]
        matrix = weights["actor"].new_zeros(self.policy.num_tasks, sum(sizes))
        parameters = [*shared["actor"], *shared["critic"], *self._own]
        edge = len(parameters) - len(self._own)
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        for group, (task, losses) in enumerate(zip(batch.group_task.tolist(), self._by_group, strict=True)):
            loss = self._weighed(losses, {network: weight[group] for network, weight in weights.items()}).sum()
            gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
            matrix[task] = torch.cat([gradient.flatten() for gradient in gradients[:edge]])
            for parameter, gradient in zip(self._own, gradients[edge:], strict=True):
                assert parameter.grad is not None
                parameter.grad += gradient
        average_(matrix)
        average_gradients(self.optimizer)  # of parameters that are one task's own
        for network, rows in zip(NETWORKS, torch.split(matrix, sizes, dim=1), strict=True):
            combined = self._combined(network, rows, task_losses[network], present)
            pieces = torch.split(combined, [p.numel() for p in shared[network]])
            for parameter, piece in zip(shared[network], pieces, strict=True):
                assert parameter.grad is not None
                parameter.grad.copy_(piece.view_as(parameter))

    def _combined(self, network: str, rows: Tensor, losses: Tensor, present: Tensor) -> Tensor:
        """(P,) from rows (M, P)."""
        rule, total = self._combining.rules[network], rows.sum(0)
        if not isinstance(rule, GradientRule) or not len(total) or not bool(total.isfinite().all()):
            return total  # clipping tells of what is not finite
        tasks = present.nonzero().squeeze(1)
        gradients = rows.cpu() if len(tasks) == len(rows) else rows.cpu()[tasks]
        given = TaskGradients(gradients * len(tasks), losses[tasks], tasks, self._draw(network))
        return rule.combine(given).to(rows)

    def _draw(self, network: str) -> int:
        return self._combining.draw(network, self._rollout, self._number)

    def _task_losses(self, batch: Minibatch, losses: Losses) -> tuple[dict[str, Tensor], Tensor]:
        """Each network's loss (M,) of every task, over all processes, and which tasks have rows; on the CPU.

        A task's share of the loss, times the number of tasks with rows, is the mean over its rows.
        """
        columns = torch.stack([*self._of_networks(losses), batch.weight.sum(1)]).detach()
        everything = columns.new_zeros(3, self.policy.num_tasks)
        everything[:, batch.group_task] = columns
        average_(everything)
        of_actor, of_critic, weight = everything.cpu()
        present = weight > 0
        count = int(present.sum())
        return {"actor": of_actor * count, "critic": of_critic * count}, present


def one_group(step: StepInput, group: int) -> StepInput:
    """The part of one task group, G = 1."""
    fields = vars(step.batch).items()
    rows: dict[str, Any] = {name: None if value is None else value[group : group + 1] for name, value in fields}
    noises = (None if noise is None else [_of_group(eps, group) for eps in noise] for noise in step[1:])
    return StepInput(Minibatch(**rows), *noises)


def _of_group(noise: Noise, group: int) -> Noise:
    """Weight noise has all tasks and stays; noise for rows has groups."""
    return noise if noise is None or isinstance(noise, Tensor) else noise.of_group(group)


def combiner_name(combiner: GradientCombiner) -> str:
    """Its short name, or that of its class."""
    return str(getattr(type(combiner), "name", type(combiner).__name__))
