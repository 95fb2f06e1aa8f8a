"""Sums and means over the processes of a run; the identity where there is one process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from varshare_pl.errors import ConfigError, RunError


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


def all_means(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The mean over processes of several values of one type: one exchange for all."""
    if world_size() == 1:
        return dict(values)
    flat = all_mean(torch.cat([value.flatten() for value in values.values()]))
    parts = torch.split(flat, [value.numel() for value in values.values()])
    return {name: part.view_as(value) for (name, value), part in zip(values.items(), parts, strict=True)}


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


@contextmanager
def together() -> Iterator[None]:
    """An error of ours that one process raises inside is raised by all: none is left waiting for another."""
    fault: ConfigError | RunError | None = None
    try:
        yield
    except (ConfigError, RunError) as error:
        if world_size() == 1:
            raise
        fault = error
    if world_size() == 1 or not _any(fault is not None):
        return
    first = next(error for error in gather_plain(fault) if error is not None)
    raise fault or first


def _any(flag: bool) -> bool:
    # NCCL exchanges nothing that lies on the CPU.
    device = torch.cuda.current_device() if dist.get_backend() == "nccl" else "cpu"
    return bool(all_max(torch.tensor(int(flag), device=device)))
