"""Rows of mixed tasks as a padded stack of task groups, and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TaskGroups:
    """Where each row of a mixed batch stands in the stack (G, R, …) of its task's group.

    Groups shorter than R are padded with copies of a row.
    """

    group_task: Tensor  # (G,) int64, ascending
    counts: Tensor  # (G,) int64, real rows of each group
    index: Tensor  # (G, R) int64, the row behind each place
    place: Tensor  # (rows,) int64, the flat place g · R + r of each row
    interleaved: bool = False  # row k belongs to group k mod G, so stack and rows are views of one another

    @classmethod
    def from_rows(cls, task: Tensor, num_tasks: int, keep_empty: bool = False) -> TaskGroups:
        """Group rows by task (rows,), at least one row; the order of rows within a group is kept.

        Args:
            task: (rows,) integers in [0, num_tasks).
            num_tasks: M.
            keep_empty: Give tasks without rows a group too, all padding, so that group g is task g.

        Raises:
            IndexError: for a task that does not exist.
        """
        counts = torch.bincount(task, minlength=num_tasks)
        if len(counts) > num_tasks:
            raise IndexError(f"task {len(counts) - 1} is out of range; the tasks are 0 to {num_tasks - 1}")
        group_task = (counts >= int(not keep_empty)).nonzero().squeeze(1)
        counts = counts[group_task]
        by_task = torch.argsort(task, stable=True)
        start = counts.cumsum(0) - counts
        column = torch.arange(int(counts.max()), device=task.device)
        inside = column < counts[:, None]
        index = by_task[(start[:, None] + column * inside).clamp(max=len(task) - 1)]
        place = torch.empty_like(by_task).scatter(0, by_task, inside.flatten().nonzero().squeeze(1))
        interleaved = index.numel() == len(task) and torch.equal(index.mT.flatten(), torch.arange(len(task)).to(task))
        return cls(group_task, counts, index, place, interleaved)

    @property
    def mask(self) -> Tensor:
        """(G, R) bool, true for real rows."""
        return torch.arange(self.index.shape[1], device=self.index.device) < self.counts[:, None]

    def group(self, rows: Tensor) -> Tensor:
        """(rows, …) to (G, R, …)."""
        if self.interleaved:
            return rows.reshape(self.index.shape[1], len(self.counts), *rows.shape[1:]).transpose(0, 1)
        return rows[self.index]

    def ungroup(self, stacked: Tensor) -> Tensor:
        """(G, R, …) back to (rows, …); padding is dropped."""
        if self.interleaved:
            return stacked.transpose(0, 1).flatten(0, 1)
        return stacked.flatten(0, 1)[self.place]

    def to(self, device: torch.device) -> TaskGroups:
        """The same groups on another device."""
        group_task, counts, index, place = (
            t.to(device) for t in (self.group_task, self.counts, self.index, self.place)
        )
        return TaskGroups(group_task, counts, index, place, self.interleaved)
