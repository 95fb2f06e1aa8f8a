"""Sums and means over the processes of a run; the identity where there is one process."""

from __future__ import annotations

import mmap
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
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
    return value if world_size() == 1 else _reduce(value, torch.add, dist.ReduceOp.SUM)


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


def average_(value: Tensor) -> None:
    """Replace a contiguous tensor by its mean over processes."""
    if world_size() > 1:
        _reduce_(value, torch.add, dist.ReduceOp.SUM)
        value.div_(world_size())


def all_max(value: Tensor) -> Tensor:
    """The maximum over processes."""
    return value if world_size() == 1 else _reduce(value, torch.maximum, dist.ReduceOp.MAX)


def double(values: Tensor) -> Tensor:
    """The same in float64, in which a sum of many loses nothing; in float32 on Apple's GPUs, which have none."""
    return values.to(torch.float32 if values.device.type == "mps" else torch.float64)


def statistics_by_task(rows: Tensor, task: Tensor, num_tasks: int) -> tuple[Tensor, Tensor, Tensor]:
    """Count (M,), mean and variance (M, *shape) of each task's rows, over those of all processes, in float64.

    The variance is taken around the mean and divided by the count; a task without rows has mean and variance 0.

    Args:
        rows: (rows, *shape).
        task: (rows,) int64.
        num_tasks: M.
    """
    rows = double(rows)
    count = all_sum(torch.bincount(task, minlength=num_tasks))
    divisor = count.clamp_min(1).to(rows.dtype).view(-1, *[1] * (rows.dim() - 1))
    zeros = rows.new_zeros(num_tasks, *rows.shape[1:])
    mean = all_sum(zeros.index_add(0, task, rows)) / divisor
    return count, mean, all_sum(zeros.index_add(0, task, (rows - mean[task]).square())) / divisor


def gather_plain(value: Any) -> list[Any]:
    """A plain value of each process, in order of rank."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def any_process(flag: bool) -> bool:
    """Whether it holds on any process."""
    if world_size() == 1:
        return flag
    # NCCL exchanges nothing that lies on the CPU.
    device = torch.cuda.current_device() if dist.get_backend() == "nccl" else "cpu"
    return bool(all_max(torch.tensor(int(flag), device=device)))


@contextmanager
def raised_by_all() -> Iterator[None]:
    """An error of ours that one process raises inside is raised by all: none is left waiting for another."""
    fault: ConfigError | RunError | None = None
    try:
        yield
    except (ConfigError, RunError) as error:
        if world_size() == 1:
            raise
        fault = error
    if not any_process(fault is not None):
        return
    first = next(error for error in gather_plain(fault) if error is not None)
    raise fault or first


def _reduce(value: Tensor, combine: Callable[..., Tensor], operation: Any) -> Tensor:
    value = value.clone(memory_format=torch.contiguous_format)
    _reduce_(value, combine, operation)
    return value


def _reduce_(value: Tensor, combine: Callable[..., Tensor], operation: Any) -> None:
    shared = _memory() if value.device.type == "cpu" else None
    if shared is None:
        dist.all_reduce(value, op=operation)
    else:
        shared.reduce(value, combine)


class SharedMemory:
    """Memory that the processes of one machine share, to add up tensors of the CPU.

    Gloo does it with threads of its own, which wait for a core where every process keeps one busy: often for a tick of
    the scheduler, 4 ms, as long as a gradient step takes. Here each process writes its part, counts up its flag, and
    looks at those of the others until all are there. All add up in the same order, to the same bits.

    Args:
        memory: Shared, of ``size`` bytes, zeros.
        number: This process's rank.
        processes: Process ids by rank.
    """

    CHUNK = 1 << 20  # bytes that are exchanged at a time
    LINE = 64  # bytes of a cache line, one for each flag

    def __init__(self, memory: mmap.mmap, number: int, processes: list[int]) -> None:
        start = self.LINE * len(processes)
        self._flags = memoryview(memory)[:start].cast("q")[:: self.LINE // 8]
        # Two halves in turn: who writes to one has seen that all are done with what was in it before.
        self._parts = torch.frombuffer(memory, dtype=torch.uint8)[start:].view(2, len(processes), self.CHUNK)
        self._number, self._processes = number, processes
        self._count = 0

    @classmethod
    def size(cls, processes: int) -> int:
        """Bytes needed."""
        return processes * (cls.LINE + 2 * cls.CHUNK)

    def reduce(self, value: Tensor, combine: Callable[..., Tensor]) -> None:
        """Replace a contiguous tensor by the combination of those of all processes."""
        for mine in value.view(-1).view(torch.uint8).split(self.CHUNK):  # type: ignore[no-untyped-call]
            self._count += 1
            parts = self._parts[self._count % 2, :, : len(mine)]
            parts[self._number].copy_(mine)
            self._flags[self._number] = self._count
            self._wait()
            result, (first, second, *others) = mine.view(value.dtype), parts.view(value.dtype).unbind()
            combine(first, second, out=result)
            for other in others:
                combine(result, other, out=result)

    def _wait(self) -> None:
        if sys.platform != "linux":
            raise AssertionError("others have no such memory")
        start = time.monotonic()
        while min(self._flags) < self._count:
            if time.monotonic() - start < 0.02:
                os.sched_yield()
                continue
            time.sleep(0.001)  # a long wait, for an evaluation perhaps
            for number, process in enumerate(self._processes):
                if self._flags[number] < self._count and not _alive(process):
                    raise RunError(f"process {number} of the run has ended before it was done")


def _alive(process: int) -> bool:
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return status.rpartition(") ")[2][:1] not in ("Z", "X")


_memories: dict[int, SharedMemory | None] = {}  # by the id of the process group; the last one only


def _memory() -> SharedMemory | None:
    """That of the process group, made at the first call, by all processes together; None if there can be none."""
    group = id(dist.group.WORLD)
    if group not in _memories:
        _memories.clear()
        _memories[group] = _make_memory()
    return _memories[group]


def _make_memory() -> SharedMemory | None:
    path, memory = [_new_file(SharedMemory.size(world_size())) if rank() == 0 else None], None
    dist.broadcast_object_list(path)
    if path[0] is not None:
        with suppress(OSError, ValueError), Path(path[0]).open("r+b") as file:  # not there on another machine
            memory = mmap.mmap(file.fileno(), SharedMemory.size(world_size()))
    everyone = gather_plain((memory is not None, os.getpid()))
    if path[0] is not None and rank() == 0:
        Path(path[0]).unlink()  # who has it open keeps it
    if memory is None or not all(has_memory for has_memory, _ in everyone):
        return None
    return SharedMemory(memory, rank(), [process for _, process in everyone])


def _new_file(size: int) -> str | None:
    """The path of a new file in memory; None where the machine has none, or promises no order of writes as x86 does."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    try:
        descriptor, path = tempfile.mkstemp(prefix="varshare-", dir="/dev/shm")
    except OSError:
        return None
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError:  # a container may have little of it
        Path(path).unlink()
        return None
    finally:
        os.close(descriptor)
    return path
