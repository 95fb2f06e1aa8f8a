"""Running on this machine: processes that are forked once everything is imported, so that a run starts at once.

Windows cannot fork: there each process imports everything anew.
"""

from __future__ import annotations

import ctypes
import multiprocessing as mp
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from varshare_pl.processes import main_hidden, one_thread, start_method, usable_cores
from varshare_pl.study.executor import Ended, log_in_utf8
from varshare_pl.study.runs import Run

PR_SET_PDEATHSIG = 1


class ForkServer:
    """Python's fork server with our heavy imports done once: it has one thread, so that forks of it are safe.

    Whoever asks for a process is itself free of torch. A process asks for its threads with ``threads`` as ever. Where
    Python has no fork server each process is started anew, to the same effect.

    Args:
        preload: Module that imports what the processes need.
    """

    def __init__(self, preload: str) -> None:
        self.preload = preload
        self._context: Any = mp.get_context(start_method())
        if start_method() == "forkserver":
            self._context.set_forkserver_preload([preload])
            with one_thread():
                mp.forkserver.ensure_running()  # type: ignore[attr-defined]

    def start(self, target: Callable[..., None], *args: Any) -> BaseProcess:
        """Call a function in a process of its own."""
        process: BaseProcess = self._context.Process(
            target=_in_place, args=(str(Path.cwd()), sys.argv[0], target, *args)
        )
        with one_thread(), main_hidden():
            process.start()
        return process

    def pipe(self) -> Any:
        """A one-way pipe: the end to receive and the end to send."""
        return self._context.Pipe(duplex=False)


class LocalExecutor:
    """A process per run, so many at once.

    Args:
        server: Makes the processes.
        main: Runs a command line of ``varshare`` and gives its exit code.
        log: The file for a run's output.
        slots: How many at once; None for one per core.
    """

    def __init__(
        self, server: ForkServer, main: Callable[[list[str]], int], log: Callable[[Run], Path], slots: int | None
    ) -> None:
        self._server, self._main, self._log = server, main, log
        self.slots = slots or usable_cores()
        self._running: dict[str, tuple[Run, BaseProcess]] = {}

    def attach(self, runs: Sequence[Run]) -> list[Run]:
        """None: processes end with the study."""
        return []

    def start(self, runs: Sequence[Run]) -> None:
        for run in runs:
            log = self._log(run)
            log.parent.mkdir(exist_ok=True)
            self._running[run.name] = run, self._server.start(_train, self._main, run.command, str(log))

    def wait(self, seconds: float) -> list[Ended]:
        processes = {process.sentinel: run for run, process in self._running.values()}
        ready = wait(list(processes), timeout=seconds)
        ended = []
        for sentinel in ready:
            assert isinstance(sentinel, int)
            run, process = self._running.pop(processes[sentinel].name)
            process.join()
            assert process.exitcode is not None
            ended.append(Ended(run, process.exitcode, self._log(run)))
            process.close()
        return ended

    def stop(self, number: int) -> None:
        if sys.platform == "win32" and number == signal.SIGINT:  # the console tells all processes itself
            return
        for _, process in self._running.values():
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, number)

    def close(self) -> None:
        """Nothing: the server makes processes for whoever asks next."""


def _in_place(folder: str, program: str, target: Callable[..., None], *args: Any) -> None:
    """What each process does first: it is started far from where the study was, and outlives nobody."""
    if sys.platform != "win32":
        os.setsid()  # Ctrl-C reaches the study alone, which passes it on once
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))  # a server of workers blocks them
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _end_with_parent()
    os.chdir(folder)
    sys.argv[0] = program
    target(*args)


def _end_with_parent() -> None:
    """Have Linux send SIGTERM when the parent dies, so that a killed study leaves no run behind.

    Elsewhere such a run goes on by itself, and the study started again waits for its lock.
    """
    if sys.platform == "linux":
        # The server ends when nobody holds this pipe any more, and it hands it to all it forks.
        server: Any = mp.forkserver._forkserver  # type: ignore[attr-defined]
        os.close(server._forkserver_alive_fd)
        server._forkserver_alive_fd = None
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() == 1:
            os.kill(os.getpid(), signal.SIGTERM)


def _train(main: Callable[[list[str]], int], args: list[str], log: str) -> None:
    """One command of ``varshare``, as if typed: its output in the log, its own name where Lightning starts it again."""
    with open(os.devnull) as nothing, open(log, "ab", buffering=0) as output:  # noqa: PTH123
        for target, source in ((0, nothing), (1, output), (2, output)):
            os.dup2(source.fileno(), target)
    log_in_utf8()
    sys.argv[1:] = args
    sys.modules["__main__"].__spec__ = find_spec("varshare_pl.__main__")  # further devices: python -m varshare_pl
    sys.exit(main(args))
