"""The memory in which processes add up tensors: right, the same bits for all, and no waiting for the dead."""

import errno
import mmap
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest
import torch

from varshare_pl import parallel
from varshare_pl.errors import RunError
from varshare_pl.parallel import SharedMemory

PROCESSES = 3
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="Linux on x86 only"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),  # what fork says from Python 3.12 on
]


def in_processes(work: Callable[[SharedMemory, int], Any]) -> list[Any]:
    """What each of three processes gets from ``work``; forked, so they have one memory."""
    fork = multiprocessing.get_context("fork")
    memory, ids = mmap.mmap(-1, SharedMemory.size(PROCESSES)), fork.Array("q", PROCESSES)
    pipes = [fork.Pipe(duplex=False) for _ in range(PROCESSES)]

    def run(number: int) -> None:
        ids[number] = os.getpid()
        while not all(ids):
            time.sleep(0.001)
        try:
            pipes[number][1].send(work(SharedMemory(memory, number, list(ids)), number))
        except RunError as error:
            pipes[number][1].send(str(error))

    running = [fork.Process(target=run, args=(number,), daemon=True) for number in range(PROCESSES)]
    for process in running:
        process.start()
    for process, (ours, _) in zip(running, pipes, strict=True):
        wait([process.sentinel, ours], 30)
    results = [ours.recv() if ours.poll() else "nothing" for ours, _ in pipes]
    for process in running:
        process.join(10)
        process.kill()
    return results


def part(number: int, size: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    values = torch.randn(size, generator=torch.Generator().manual_seed(number)) * 100
    return values.to(dtype)


CHUNK = SharedMemory.CHUNK // 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
@pytest.mark.parametrize("size", [1, 17, CHUNK - 1, CHUNK + 1, 3 * CHUNK])
def test_sums_and_maxima(size: int, dtype: torch.dtype) -> None:
    def work(memory: SharedMemory, number: int) -> tuple[list[Any], list[Any]]:
        torch.set_num_threads(1)
        total, largest = part(number, size, dtype), part(number, size, dtype)
        memory.reduce(total, torch.add)
        memory.reduce(largest, torch.maximum)
        return total.numpy().tobytes(), largest.numpy().tobytes()

    results = in_processes(work)
    parts = [part(number, size, dtype) for number in range(PROCESSES)]
    total, largest = parts[0] + parts[1] + parts[2], torch.stack(parts).amax(0)
    assert results == [(total.numpy().tobytes(), largest.numpy().tobytes())] * PROCESSES


def test_one_number_stays_one() -> None:
    def work(memory: SharedMemory, number: int) -> tuple[float, int]:
        value = torch.tensor(float(number))
        memory.reduce(value, torch.add)
        return value.item(), value.dim()

    assert in_processes(work) == [(3.0, 0)] * PROCESSES


def test_many_in_a_row_at_uneven_speeds() -> None:
    def work(memory: SharedMemory, number: int) -> bool:
        torch.set_num_threads(1)
        right = True
        for k in range(600):
            if k % 7 == number:
                time.sleep(0.0005)
            value = torch.full((1 + 3 * (k % 5),), float(k + number))
            memory.reduce(value, torch.add)
            right &= bool((value == 3 * k + 3).all())
        return right

    assert in_processes(work) == [True] * PROCESSES


def test_a_process_that_ended_is_not_waited_for() -> None:
    def work(memory: SharedMemory, number: int) -> str:
        value = torch.ones(1)
        memory.reduce(value, torch.add)
        if number == 1:
            os._exit(1)
        memory.reduce(value, torch.add)
        return "done"

    gone = "process 1 of the run has ended before it was done"
    assert in_processes(work)[::2] == [gone, gone]


def test_no_board_without_memory_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    make = tempfile.mkstemp
    monkeypatch.setattr(tempfile, "mkstemp", lambda prefix, **_: make(prefix=prefix, dir=tmp_path))
    path = parallel._new_file(1 << 10)
    assert path is not None
    assert Path(path).stat().st_size == 1 << 10
    Path(path).unlink()
    monkeypatch.setattr(os, "posix_fallocate", refuse)
    assert parallel._new_file(1 << 10) is None
    assert list(tmp_path.iterdir()) == []


def test_no_board_where_writes_may_be_seen_out_of_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert parallel._new_file(1 << 10) is None
