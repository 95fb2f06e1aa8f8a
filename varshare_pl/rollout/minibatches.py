"""Minibatches stratified by task: every minibatch holds the same share of each task's rows.

Ragged mixes (an env that changes task, a task without rows) are padded, and every task that is present weighs the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import torch
from torch import Tensor

from varshare_pl.networks.groups import TaskGroups
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
    return torch.where(counts > 0, world_size() / ((counts > 0).sum() * counts.clamp_min(1)), 0.0)


def minibatches(
    rows: Rows, groups: TaskGroups, number: int, row_weight: Tensor, generator: torch.Generator
) -> Iterator[Minibatch]:
    """One pass over a rollout's rows in random order, each row in exactly one of B minibatches.

    A row weighs B / (tasks present × rows of its task in the rollout), so that the minibatch gradients average to the
    rollout's, in which each task weighs the same.

    Args:
        rows: The rollout's rows.
        groups: Their task groups.
        number: B.
        row_weight: (M,) from ``task_weights``.
        generator: Draws the order.
    """
    device = groups.index.device
    edges = torch.arange(number + 1, device=device)[:, None] * groups.counts // number  # (B + 1, G), of each group
    start, end = edges[:-1, :, None], edges[1:, :, None]
    position = start + torch.arange(int((end - start).max()), device=device)  # (B, G, S)
    real = position < end  # false where a row only fills up
    shuffled = groups.index.gather(1, _orders(groups, generator).to(device)).expand(number, -1, -1)
    index = shuffled.gather(2, position * real)
    weight = number * row_weight[groups.group_task][:, None] * real
    columns = {"weight": weight} | {name: _take(rows[name], index) for name in ROW_FIELDS if name in rows}
    for parts in zip(*(column.unbind() for column in columns.values()), strict=True):
        yield Minibatch(groups.group_task, **dict(zip(columns, parts, strict=True)))


def _take(column: Tensor, index: Tensor) -> Tensor:
    return column.index_select(0, index.flatten()).view(*index.shape, *column.shape[1:])  # faster than column[index]


def _orders(groups: TaskGroups, generator: torch.Generator) -> Tensor:
    """(G, R) the rows of each group in random order, on the CPU."""
    orders = torch.zeros(groups.index.shape, dtype=torch.int64, device="cpu")
    for order, count in zip(orders, groups.counts.tolist(), strict=True):
        torch.randperm(count, generator=generator, out=order[:count])  # to sort random keys takes six times as long
    return orders
