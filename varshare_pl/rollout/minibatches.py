"""Minibatches stratified by task: every minibatch holds the same share of each task's rows.

Ragged mixes (an env that changes task, a task without rows) are padded, and every task that is present weighs the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import torch
from torch import Tensor

from varshare_pl.groups import TaskGroups
from varshare_pl.types import Minibatch

Rows = dict[str, Tensor]
"""Per-row fields of a rollout by the names of ``Minibatch``: each (T·N, …)."""

ROW_FIELDS = tuple(f.name for f in fields(Minibatch) if f.name not in ("group_task", "weight"))


def epoch(rows: Rows, groups: TaskGroups, num_minibatches: int, generator: torch.Generator) -> Iterator[Minibatch]:
    """One pass over all rows in random order, each row in exactly one minibatch.

    Args:
        rows: The rollout's rows.
        groups: Their task groups.
        num_minibatches: B.
        generator: Draws the order.

    Yields:
        B minibatches. A row weighs B / (tasks present × rows of its task in the rollout), so that the minibatch
        gradients average to the rollout's, in which each task weighs the same.
    """
    index, weight = plan(groups, num_minibatches, generator)
    gathered = {name: rows[name][index].unbind() for name in ROW_FIELDS}
    for b in range(num_minibatches):
        yield Minibatch(groups.group_task, weight=weight[b], **{name: parts[b] for name, parts in gathered.items()})


def plan(groups: TaskGroups, num_minibatches: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
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
    row_weight = num_minibatches / (len(groups.counts) * groups.counts.to(torch.get_default_dtype()))
    return index, row_weight[:, None] * real
