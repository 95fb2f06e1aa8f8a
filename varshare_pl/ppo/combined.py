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
from varshare_pl.gradients import accumulate
from varshare_pl.parallel import average_
from varshare_pl.policy.actor_critic import ActorCritic
from varshare_pl.policy.size import shared_parameters
from varshare_pl.ppo.objective import Losses, Objective
from varshare_pl.ppo.optimizer import FlatAdam, GradientNorms
from varshare_pl.ppo.step import Differentiate, GradientStep, Taken, Work
from varshare_pl.random import stream_seed
from varshare_pl.sharing.base import Noise
from varshare_pl.types import Minibatch

NETWORKS = ("actor", "critic")


class Combining:
    """A combiner's rules for actor and critic, which live as long as a run.

    Args:
        combiner: Makes the rules.
        policy: Whose gradients they combine.
        obs_size: Of an observation row.
        seed: The run's.

    Raises:
        ConfigError: if tasks share nothing, or there is one task only.
    """

    def __init__(self, combiner: GradientCombiner, policy: ActorCritic, obs_size: int, seed: int) -> None:
        self.name = name = getattr(type(combiner), "name", type(combiner).__name__)
        if policy.num_tasks == 1:
            raise ConfigError(f"model.combiner: {name} is not allowed with one task; null is")
        self.shared = {network: shared_parameters(torso, obs_size) for network, torso in policy.networks()}
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


class Columns:
    """Where the shared parameters of a network lie: in the optimizer's vector, and side by side.

    Args:
        optimizer: Of the policy.
        parameters: The shared ones of a network.
    """

    def __init__(self, optimizer: FlatAdam, parameters: Iterable[Tensor]) -> None:
        places = optimizer.split(torch.arange(len(optimizer.gradient)))
        spans: list[list[int]] = []
        for start, count in sorted((int(places[id(p)].flatten()[0]), p.numel()) for p in parameters):
            if spans and spans[-1][1] == start:
                spans[-1][1] += count
            else:
                spans.append([start, start + count])
        self._parts = [optimizer.gradient[start:end] for start, end in spans]
        self._sizes = [len(part) for part in self._parts]
        self.size = sum(self._sizes)

    def move(self, row: Tensor) -> None:
        """Move the gradient to row (P,), and leave zeros."""
        for part, place in zip(self._parts, torch.split(row, self._sizes), strict=True):
            place.copy_(part)
            part.zero_()

    def put(self, row: Tensor) -> None:
        """The gradient becomes row (P,)."""
        for part, place in zip(self._parts, torch.split(row, self._sizes), strict=True):
            part.copy_(place)


class CombinedStep(GradientStep):
    """Takes gradient steps like ``GradientStep``, with the tasks' gradients combined.

    Args:
        policy: Is trained.
        objective: Gives and weighs the losses.
        optimizer: Of the policy, from ``build_optimizer``.
        max_grad_norm: Of actor and critic each, after combining; None: no clipping.
        combining: The rules.
    """

    def __init__(
        self,
        policy: ActorCritic,
        objective: Objective,
        optimizer: FlatAdam,
        max_grad_norm: float | None,
        combining: Combining,
    ) -> None:
        super().__init__(policy, objective, optimizer, max_grad_norm)
        self._combining = combining
        self._columns = {network: Columns(optimizer, combining.shared[network]) for network in NETWORKS}
        self._rollout = self._number = 0
        self._work: Work

    def take(self, work: Iterable[Work], rollout: int, target_kl: float | None, kl_scale: float | None = None) -> Taken:
        """See ``GradientStep.take``."""
        self._rollout, self._number = rollout, 0
        taken = super().take(work, rollout, target_kl, kl_scale)
        for rule in self._combining.rules.values():
            rule.end_update()
        return taken

    def _step(self, differentiate: Differentiate, kl_scale: float) -> GradientNorms:
        norms = super()._step(differentiate, kl_scale)
        self._number += 1
        if any(isinstance(rule, LossRule) and rule.looks_again for rule in self._combining.rules.values()):
            with torch.no_grad():
                sums, _ = self._objective.data_terms(self._policy, *self._work)
            task_losses, present = self._task_losses(sums)
            for network, rule in self._combining.rules.items():
                if isinstance(rule, LossRule):
                    rule.look_again(task_losses[network], present)
        return norms

    def _evaluate(self, work: Work) -> tuple[Losses, Differentiate]:
        self._work = work
        groups = range(len(work.batch.group_task))
        works = [one_group(work, group) for group in groups] if self._combining.per_task else [work]
        terms = [self._objective.data_terms(self._policy, *part) for part in works]
        sums = torch.cat([part for part, _ in terms], dim=1).detach()
        kl, to_variational = self._policy.kl_with_pullback()

        def differentiate(scale: float, kl_scale: float) -> None:
            del scale  # there is none: 16-bit training is refused
            self._differentiate([part for part, _ in terms], sums)
            accumulate(to_variational(kl_scale) if kl_scale else [])

        return Losses(sums, kl, torch.cat([ratio for _, ratio in terms])), differentiate

    def _differentiate(self, parts: list[Tensor], sums: Tensor) -> None:
        """That of the data, from sums of autograd's graph: (3, G), or (3, 1) of each group."""
        task_losses, present = self._task_losses(sums)
        weights = {
            network: rule.weights(task_losses[network], present, self._draw(network))
            if isinstance(rule, LossRule)
            else torch.ones(self._policy.num_tasks)
            for network, rule in self._combining.rules.items()
        }
        actor, critic = (weights[network].to(sums) for network in NETWORKS)
        weight = torch.stack([actor, critic, actor])[:, self._work.batch.group_task]
        if self._combining.per_task:
            self._combine(parts, weight, task_losses, present)
        else:
            torch.autograd.backward(parts, [self._seeds(sums) * weight])
            average_(self.optimizer.gradient)

    def _combine(self, parts: list[Tensor], weight: Tensor, task_losses: dict[str, Tensor], present: Tensor) -> None:
        sizes = [self._columns[network].size for network in NETWORKS]
        matrix = self.optimizer.gradient.new_zeros(self._policy.num_tasks, sum(sizes))
        tasks = self._work.batch.group_task.tolist()
        for task, part, one in zip(tasks, parts, weight.unbind(1), strict=True):
            torch.autograd.backward(part, self._seeds(part) * one.unsqueeze(1))
            for network, row in zip(NETWORKS, torch.split(matrix[task], sizes), strict=True):
                self._columns[network].move(row)
        average_(matrix)
        average_(self.optimizer.gradient)  # of parameters that are one task's own
        for network, rows in zip(NETWORKS, torch.split(matrix, sizes, dim=1), strict=True):
            self._columns[network].put(self._combined(network, rows, task_losses[network], present))

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

    def _task_losses(self, sums: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Each network's loss (M,) of every task, over all processes, and which tasks have rows; on the CPU.

        A task's share of the loss, times the number of tasks with rows, is the mean over its rows.
        """
        batch = self._work.batch
        columns = torch.cat([sums, batch.weight.sum(1).unsqueeze(0)])
        everything = columns.new_zeros(4, self._policy.num_tasks)
        everything[:, batch.group_task] = columns
        average_(everything)
        policy, value, entropy, weight = everything.cpu()
        present = weight > 0
        of_policy, of_value, of_entropy = (part * int(present.sum()) for part in self._objective.weights())
        return {"actor": of_policy * policy + of_entropy * entropy, "critic": of_value * value}, present


def one_group(work: Work, group: int) -> Work:
    """The part of one task group, G = 1."""
    fields = vars(work.batch).items()
    rows: dict[str, Any] = {name: None if value is None else value[group : group + 1] for name, value in fields}
    noises = (None if noises is None else [_of_group(noise, group) for noise in noises] for noises in work[1:])
    return Work(Minibatch(**rows), *noises)


def _of_group(noise: Noise, group: int) -> Noise:
    """Weight noise has all tasks and stays; noise for rows has groups."""
    return noise if noise is None or isinstance(noise, Tensor) else noise.of_group(group)
