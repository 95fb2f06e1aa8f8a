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


def epoch(
    rows: Rows, groups: TaskGroups, num_minibatches: int, generator: torch.Generator, row_weight: Tensor | None = None
) -> Iterator[Minibatch]:
    """One pass over all rows in random order, each row in exactly one minibatch.

    Args:
        rows: The rollout's rows.
        groups: Their task groups.
        num_minibatches: B.
        generator: Draws the order.
        row_weight: (M,) from ``task_weights``; None: from these rows alone.

    Yields:
        B minibatches. A row weighs B / (tasks present × rows of its task in the rollout), so that the minibatch
        gradients average to the rollout's, in which each task weighs the same.
    """
    index, weight = plan(groups, num_minibatches, generator, row_weight)
    gathered = {name: rows[name][index].unbind() for name in ROW_FIELDS if name in rows}
    for b in range(num_minibatches):
        yield Minibatch(groups.group_task, weight=weight[b], **{name: parts[b] for name, parts in gathered.items()})


def plan(
    groups: TaskGroups, num_minibatches: int, generator: torch.Generator, row_weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Which row stands where: index and weight, (B, G, S) each, S the most rows of a task in a minibatch."""
    device = groups.index.device
    keys = torch.rand(groups.index.shape, generator=generator).to(device)
    order = keys.masked_fill_(~groups.mask, 2.0).argsort(1)  # padding last
    shuffled = groups.index.gather(1, order)  # (G, R)

    edges = torch.arange(num_minibatches + 1, device=device)[:, None] * groups.counts // num_minibatches  # (B+1, G)
    start, end = edges[:-1], edges[1:]
    size = int((end - start).max())
    position = start[..., None] + torch.arange(size, device=device)  # (B, G, S)
    real = position < end[..., None]
    position = torch.where(real, position, 0)
    index = shuffled.expand(num_minibatches, -1, -1).gather(2, position)
    if row_weight is None:
        weight = 1.0 / (len(groups.counts) * groups.counts.to(torch.get_default_dtype()))
    else:
        weight = row_weight[groups.group_task]
    return index, (num_minibatches * weight)[:, None] * real
