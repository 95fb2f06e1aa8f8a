"""Worker processes as their parent sees them: started, spoken to, ended."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from ctypes import c_byte
from multiprocessing import resource_tracker, util
from typing import Any

from varshare_pl.envs.shared_block import SharedBlock
from varshare_pl.envs.task_env import BEING_MADE
from varshare_pl.envs.worker import SIGNALS, Plan, registered, work
from varshare_pl.errors import ConfigError
from varshare_pl.processes import main_hidden, one_thread, start_method

CLOSE_SECONDS = 5.0  # in which a worker has closed its envs
Answer = tuple[Any, Exception | None, list[tuple[type[Warning], str]]]
"""A result, what was raised, and warnings."""


class WorkerProcess:
    """A worker, seen from its parent."""

    def __init__(self, kind: Any, memory: Any, number: int, plan: Plan | bytes) -> None:
        self.number = number
        self.connection, theirs = kind.Pipe()
        self.process = kind.Process(target=work, args=(theirs, memory, number, plan), daemon=True)
        self.process.start()
        theirs.close()

    def send(self, message: bytes) -> None:
        with suppress(OSError):  # it is dead: to be told where its answer is waited for
            self.connection.send_bytes(message)

    def receive(self) -> Answer:
        """Result, fault and warnings of the oldest answer."""
        message = self.connection.recv_bytes()
        return pickle.loads(message) if message else (None, None, [])

    def end(self) -> Exception | None:
        """Wait until it has closed its envs, or kill it; gives what they raised."""
        fault = None
        try:
            while self.connection.poll(CLOSE_SECONDS):
                _, fault, _ = self.receive()  # the last answer is that to ``close``
        except (EOFError, OSError):
            return fault
        finally:
            kill([self])
        return None

    def how_it_ended(self) -> str:
        """The signal or the exit code, where it is known."""
        self.process.join(CLOSE_SECONDS)
        code = self.process.exitcode
        if code is None or code >= 0:
            return "" if code is None else f" with exit code {code}"
        return f" of {signal.Signals(-code).name}"


def kill(workers: list[WorkerProcess]) -> None:
    """End workers at once."""
    for worker in workers:
        worker.connection.close()
    for worker in workers:
        worker.process.join(0.1)  # one that waits for a message ends by itself
        worker.process.kill()
        worker.process.join()


def end_at_exit(owner: Any, workers: list[WorkerProcess]) -> None:
    """Kill what is in the list when its owner is forgotten or the program ends, before Python waits for it."""
    util.Finalize(owner, kill, (workers,), exitpriority=10)


def start_workers(plan: Plan, context: str | None, workers: list[WorkerProcess]) -> SharedBlock:
    """Start the workers of a plan, and put them into a list.

    Args:
        plan: Of all.
        context: "forkserver", "spawn" or "fork"; None: the first that there is.
        workers: To put them in.

    Returns:
        What they share.

    Raises:
        ConfigError: if there is no such context, or the plan cannot be sent to another process.
    """
    there = multiprocessing.get_all_start_methods()
    context = context or start_method()
    if context not in there:
        raise ConfigError(f"context={context!r}: allowed: {', '.join(there)}")
    kind: Any = multiprocessing.get_context(context)
    # No name, so that nothing is left behind however the processes end.
    memory = kind.RawArray(c_byte, SharedBlock.size(*plan.sizes))
    block = SharedBlock.over(memory, *plan.sizes)
    block.task[:], block.steps[:] = plan.start_tasks, BEING_MADE
    block.at[:] = [share[0] for share in plan.shares]
    sent = plan if context == "fork" else _pickled(plan)
    if context == "forkserver":
        kind.set_forkserver_preload(["varshare_pl.envs.worker", *_modules(plan)])
    # A class of the main script can only be found where that is run anew; all others are spared it.
    main = nullcontext() if isinstance(sent, bytes) and b"__main__" in sent else main_hidden()
    with one_thread(), _signals_blocked(), main:
        workers.extend(WorkerProcess(kind, memory, number, sent) for number in range(len(plan.shares)))
    return block


def _pickled(plan: Plan) -> bytes:
    """The plan with the registrations of its ids, of which a fresh process knows only those of imported packages."""
    try:
        return pickle.dumps((plan, registered(plan.suite)))
    except Exception as error:  # whatever a foreign object raises
        raise ConfigError(
            f"backend='workers': the suite {plan.suite.name} cannot be sent to another process "
            f"({' '.join(str(error).split())}); backend='sync' does without"
        ) from error


def _modules(plan: Plan) -> list[str]:
    """The modules of the suite's envs: imported once by the server, not by each worker."""
    entries = [spec.entry_point for spec in registered(plan.suite)]
    return sorted({entry.partition(":")[0] for entry in entries if isinstance(entry, str)})


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Have processes that are started meanwhile never see what a terminal or a scheduler sends to the whole group."""
    if sys.platform == "win32":  # has no such signals
        yield
        return
    resource_tracker.ensure_running()  # which else unblocks them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
