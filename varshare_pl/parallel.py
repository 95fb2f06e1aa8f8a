"""Sums and means over the processes of a run; the identity where there is one process."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number among them, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def all_sum(value: Tensor) -> Tensor:
    """The sum over processes."""
    if world_size() == 1:
        return value
    value = value.clone()
    dist.all_reduce(value)
    return value


def all_mean(value: Tensor) -> Tensor:
    """The mean over processes."""
    return all_sum(value) / world_size() if world_size() > 1 else value


def all_max(value: Tensor) -> Tensor:
    """The maximum over processes."""
    if world_size() == 1:
        return value
    value = value.clone()
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return value


def gather_plain(value: Any) -> list[Any]:
    """A plain value of each process, in order of rank."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def any_true(value: Tensor) -> bool:
    """Whether a () bool is true on any process."""
    return bool(all_max(value.to(torch.int32)))
