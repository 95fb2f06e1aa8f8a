"""Running on a Ray cluster: a task per run. A run whose node is lost goes on elsewhere from its last checkpoint.

All nodes need the package and the study's folder at the same path, as on a shared file system.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from varshare_pl.errors import ConfigError
from varshare_pl.processes import usable_cores
from varshare_pl.study.executor import MANY, Ended
from varshare_pl.study.local import ForkServer, LocalExecutor
from varshare_pl.study.resources import AUTO, Ray, ray_address
from varshare_pl.study.runs import Run, locked

PATIENCE = 5.0  # seconds for the cluster to answer; Ray itself tries for minutes and then ends the process
AGAIN = 5.0  # seconds until tasks that go on are cancelled once more
TICK = 0.2  # seconds between two looks of a task at its run
STORE = 80 * 2**20  # bytes, close to the least that Ray takes: only exit codes go through its store
STOPPED = 128 + signal.SIGINT


class Job:
    """What a task does: a command of ``varshare``, the first time ``fit``, and after its node is lost ``resume``."""

    def __init__(self, main: Callable[[list[str]], int], preload: str, run: Run, log: Path) -> None:
        self._main, self._preload, self._run, self._log = main, preload, run, log
        self._folder, self._program = Path.cwd(), sys.argv[0]

    def __call__(self) -> int:
        os.chdir(self._folder)
        sys.argv[0] = self._program
        executor = LocalExecutor(ForkServer(self._preload), self._main, lambda _: self._log, 1)
        try:
            while locked(self._run.folder):  # the node may be lost to the cluster, and its run still at work
                time.sleep(TICK)
            if self._run.finished:
                return 0
            executor.start([self._run])
        except KeyboardInterrupt:
            return STOPPED
        stopped = False
        while True:
            try:
                if ended := executor.wait(TICK):
                    return ended[0].exit_code
            except KeyboardInterrupt:  # the task is cancelled, and again while the run comes to its end
                if not stopped:
                    executor.stop(signal.SIGINT)
                stopped = True


class RayExecutor:
    """A task per run. Ray starts a task again when its node or its worker is lost, and ends all with the study.

    Args:
        resources: Where the cluster is, and what each run asks for.
        preload: Module that imports what a run needs.
        main: Runs a command line of ``varshare`` and gives its exit code.
        log: The file for a run's output.
        slots: How many tasks at once, waiting ones included; None for all.

    Raises:
        ConfigError: if Ray or the cluster is not there, or cannot give what a run asks for.
    """

    def __init__(
        self,
        resources: Ray,
        preload: str,
        main: Callable[[list[str]], int],
        log: Callable[[Run], Path],
        slots: int | None,
    ) -> None:
        self.slots = slots or MANY
        self._preload, self._main, self._log = preload, main, log
        self._tasks: dict[Any, Run] = {}  # by the reference to the task's result
        self._stops = 0
        self._stopped_at = 0.0
        self._ray = _connected(resources)
        # Ray chooses a worker's GPUs when it starts, so that one with GPUs is of one run; 0 is of any number.
        calls = min(resources.gpus, 1)
        ask = self._ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=-1, max_calls=calls)
        self._start = ask(_call).remote

    def attach(self, runs: Sequence[Run]) -> list[Run]:
        """None: tasks end with the study."""
        return []

    def start(self, runs: Sequence[Run]) -> None:
        for run in runs:
            self._tasks[self._start(Job(self._main, self._preload, run, self._log(run)))] = run

    def wait(self, seconds: float) -> list[Ended]:
        if not self._tasks:
            time.sleep(seconds)
            return []
        ready, _ = self._ray.wait(list(self._tasks), timeout=seconds)
        # Once more: Python loses an interrupt that comes while it cleans up.
        if self._stops and time.monotonic() > self._stopped_at + AGAIN:
            self._cancel()
        return [self._ended(task) for task in ready]

    def _ended(self, task: Any) -> Ended:
        run = self._tasks.pop(task)
        try:
            code = int(self._ray.get(task))
        except self._ray.exceptions.RayError as error:
            code = STOPPED if self._stops else 1
            if not self._stops:
                self._tell(run, error)
        return Ended(run, code, self._log(run))

    def _tell(self, run: Run, error: Exception) -> None:
        """Put into the run's log why its task failed outside of the run, as on a node without the study's folder."""
        reason = str(error).strip().splitlines()[-1]
        self._log(run).parent.mkdir(exist_ok=True)
        with self._log(run).open("a", encoding="utf-8") as log:
            log.write(f"varshare: error: the task on the Ray cluster failed: {reason}\n")

    def stop(self, number: int) -> None:
        """Cancel all tasks: the first call stops runs after their rollout, a second one at once."""
        self._stops += 1
        self._cancel()

    def _cancel(self) -> None:
        self._stopped_at = time.monotonic()
        for task in self._tasks:
            self._ray.cancel(task, force=self._stops > 1)

    def close(self) -> None:
        self._ray.shutdown()


def _call(job: Job) -> int:
    return job()


def _connected(resources: Ray) -> Any:
    """The module ``ray``, connected to the cluster; without one, one of this machine alone is started."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # read on import; Ray warns where it is not set
    try:
        import ray
    except ImportError:
        raise ConfigError('executor: ray needs Ray; pip install "varshare-pl[ray]"') from None
    address = resources.address
    if address == AUTO:
        address = ray_address(os.environ.get("RAY_ADDRESS", AUTO), "RAY_ADDRESS")
    if address != AUTO:
        _check_answers(address)
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    with _ray_kept_quiet():
        try:
            ray.init(address=address, **quiet)
        except ConnectionError as error:
            if address != AUTO:
                raise ConfigError(f"ray.address: {address}: {error}") from error
            _check_fits("cpus", resources.cpus, usable_cores())
            ray.init(
                address="local", num_cpus=usable_cores(), object_store_memory=STORE, include_dashboard=False, **quiet
            )
            try:
                _check_fits("gpus", resources.gpus, int(ray.cluster_resources().get("GPU", 0)))
            except ConfigError:
                ray.shutdown()
                raise
        except (RuntimeError, ray.exceptions.RayError) as error:  # another version of Ray or Python, or no token
            raise ConfigError(f"ray.address: {address}: {error}") from error
    return ray


def _check_answers(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), PATIENCE).close()
    except (OSError, OverflowError, UnicodeError):
        raise ConfigError(
            f"ray.address: no Ray cluster answers at {address}; HOST:PORT of a cluster's head, or auto, is allowed"
        ) from None


def _check_fits(name: str, asked: int, there: int) -> None:
    """See that a run fits this machine alone: it would wait for ever; another cluster may grow."""
    if asked > there:
        raise ConfigError(f"ray.{name}: {asked} is not allowed; this machine alone has {there}")


@contextmanager
def _ray_kept_quiet() -> Iterator[None]:
    """Keep Ray from what it does unasked while it starts: warn, report its use, and take over SIGTERM."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        signal.signal(signal.SIGTERM, handler)
