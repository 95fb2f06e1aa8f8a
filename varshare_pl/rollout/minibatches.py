"""Minibatches stratified by task: every minibatch holds the same share of each task's rows.

Ragged mixes (an env that changes task, a task without rows) are padded, and every task that is present weighs the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import torch
from torch import Tensor

from varshare_pl.groups import TaskGroups
from varshare_pl.parallel import all_sum, world_size
from varshare_pl.types import Minibatch

Rows = dict[str, Tensor]
"""Per-row fields of a rollout by the names of ``Minibatch``: each (T·N, …); "noise" may be absent."""

ROW_FIELDS = tuple(f.name for f in fields(Minibatch) if f.name not in ("group_task", "weight"))


def task_weights(task: Tensor, num_tasks: int) -> Tensor:
    """(M,) weight of a row of each task: 1 / (tasks present × rows of the task), over the rows of all processes.

    Times the number of processes, whose gradients are averaged. A task without rows has weight 0.
    """
    counts = all_sum(torch.bincount(task, minlength=num_tasks)).to(torch.get_default_dtype())
    present = counts > 0
    return torch.where(present, world_size() / (present.sum() * counts.clamp_min(1)), 0.0)


class Minibatches:
    """The minibatches of a rollout's rows.

    A row weighs B / (tasks present × rows of its task in the rollout), so that the minibatch gradients average to the
    rollout's, in which each task weighs the same.

    Args:
        rows: The rollout's rows.
        groups: Their task groups.
        number: B.
        row_weight: (M,) from ``task_weights``; None: from these rows alone.
    """

    def __init__(self, rows: Rows, groups: TaskGroups, number: int, row_weight: Tensor | None = None) -> None:
        self._columns = {name: rows[name] for name in ROW_FIELDS if name in rows}
        self._groups = groups
        self._plan = Plan(groups, number)
        if row_weight is None:
            weight = 1.0 / (len(groups.counts) * groups.counts.to(torch.get_default_dtype()))
        else:
            weight = row_weight[groups.group_task]
        self._weight = ((number * weight)[:, None] * self._plan.real).unbind()

    def epoch(self, generator: torch.Generator) -> Iterator[Minibatch]:
        """One pass over all rows in random order, each row in exactly one of B minibatches."""
        index = self._plan.draw(generator)
        flat = index.flatten()
        gathered = {
            name: column.index_select(0, flat).view(*index.shape, *column.shape[1:]).unbind()
            for name, column in self._columns.items()
        }
        for b, weight in enumerate(self._weight):
            parts = {name: batches[b] for name, batches in gathered.items()}
            yield Minibatch(self._groups.group_task, weight=weight, **parts)


class Plan:
    """Which row stands where in B minibatches, (B, G, S) each, S the most rows of a task in a minibatch.

    Args:
        groups: The rows' task groups.
        number: B.

    Attributes:
        real: (B, G, S) bool, false where a row only fills up.
    """

    def __init__(self, groups: TaskGroups, number: int) -> None:
        self._groups = groups
        device = groups.index.device
        edges = torch.arange(number + 1, device=device)[:, None] * groups.counts // number  # (B+1, G)
        start, end = edges[:-1], edges[1:]
        size = int((end - start).max())
        position = start[..., None] + torch.arange(size, device=device)
        self.real = position < end[..., None]
        self._position = torch.where(self.real, position, 0)
        self._counts = groups.counts.tolist()

    def draw(self, generator: torch.Generator) -> Tensor:
        """(B, G, S) indices of rows, in random order within each task."""
        index = self._groups.index
        order = torch.zeros(index.shape, dtype=torch.int64)
        for group, count in zip(order, self._counts, strict=True):
            torch.randperm(count, generator=generator, out=group[:count])  # to sort random keys takes six times as long
        shuffled = index.gather(1, order.to(index.device))
        return shuffled.expand(len(self._position), -1, -1).gather(2, self._position)
