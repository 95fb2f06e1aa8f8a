"""Running on a cluster: a job of SLURM per run, submitted through submitit."""

from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from varshare_pl.errors import ConfigError, RunError
from varshare_pl.study.executor import MANY, Ended, log_in_utf8
from varshare_pl.study.resources import Slurm
from varshare_pl.study.runs import Run

if TYPE_CHECKING:
    from submitit.core.utils import DelayedSubmission

FOLDER = "slurm"
EVERY = 5.0  # seconds between two questions to SLURM
PATIENCE = 20.0  # seconds for the result of a job that is gone to come through the file system


class Job:
    """What a job does: a command of ``varshare``, the first time ``fit``, and after a requeue ``resume``."""

    def __init__(self, main: Callable[[list[str]], int], run: Run) -> None:
        self._main, self._run = main, run

    def __call__(self) -> int:
        from submitit import JobEnvironment

        log_in_utf8()
        JobEnvironment().paths.result_pickle.unlink(missing_ok=True)  # of the job before it was put back
        return 0 if self._run.finished else self._main(self._run.command)

    def checkpoint(self) -> DelayedSubmission:
        """What submitit puts back into the queue when the time is up; the run's own checkpoints hold all else."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class SlurmExecutor:
    """A job per run. Jobs are known by their names, so a study that was killed finds those it left.

    Args:
        resources: What each job asks for.
        main: Runs a command line of ``varshare`` and gives its exit code.
        folder: Of the study.
        slots: How many jobs at once, waiting ones included; None for all.

    Raises:
        ConfigError: if SLURM or submitit is not there, or does not take the resources.
    """

    def __init__(self, resources: Slurm, main: Callable[[list[str]], int], folder: Path, slots: int | None) -> None:
        self.slots = slots or MANY
        self._main, self._folder = main, folder / FOLDER
        self._prefix = f"varshare-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]}-"
        self._jobs: dict[str, tuple[Run, str]] = {}  # by job name, with the job's id
        self._gone: dict[str, float] = {}  # since when a job is not in the queue any more
        self._asked_at = float("-inf")
        self._stops = 0
        self._submit = _submitit(resources, self._folder)

    def attach(self, runs: Sequence[Run]) -> list[Run]:
        names = {self._prefix + run.name: run for run in runs}
        queue = _queue()
        if queue is None:
            raise RunError("squeue does not answer: SLURM has to be there to go on with a study")
        self._jobs = {name: (names[name], number) for name, number in queue.items() if name in names}
        return [run for run, _ in self._jobs.values()]

    def start(self, runs: Sequence[Run]) -> None:
        for run in runs:
            name = self._prefix + run.name
            self._submit.update_parameters(name=name)
            try:
                job = self._submit.submit(Job(self._main, run))
            except Exception as error:  # submitit's own kind, with what sbatch said
                raise RunError(f"{run.name} could not be submitted: {error}") from error
            self._jobs[name] = run, str(job.job_id)

    def wait(self, seconds: float) -> list[Ended]:
        time.sleep(seconds)
        now = time.monotonic()
        if self._stops > 1:
            left, self._jobs = self._jobs, {}
            return [Ended(run, 128 + signal.SIGTERM, self._log(number)) for run, number in left.values()]
        if not self._jobs or now - self._asked_at < EVERY:
            return []
        queue, self._asked_at = _queue(), now
        if queue is None:  # too busy to answer: ask again
            return []
        ended = []
        for name in self._jobs.keys() - queue.keys():
            code = self._exit_code(self._jobs[name][1])
            if code is None and now - self._gone.setdefault(name, now) < PATIENCE:
                continue
            run, number = self._jobs.pop(name)
            self._gone.pop(name, None)
            # Without a result its node failed, or SLURM ended it; the log may say why.
            ended.append(Ended(run, 1 if code is None else code, self._log(number)))
        return ended

    def _log(self, number: str) -> Path:
        return self._folder / f"{number}_0_log.out"

    def stop(self, number: int) -> None:
        """Cancel all jobs: SLURM sends SIGTERM, which stops a run after its rollout, and kills half a minute later.

        A second call waits for them no longer.
        """
        self._stops += 1
        if self._jobs:
            jobs = [job for _, job in self._jobs.values()]
            subprocess.run(["scancel", *jobs], check=False, capture_output=True, timeout=60)
            self._asked_at = float("-inf")

    def close(self) -> None:
        """Nothing: SLURM keeps the jobs."""

    def _exit_code(self, number: str) -> int | None:
        from submitit import SlurmJob

        job: SlurmJob[Any] = SlurmJob(folder=self._folder, job_id=number)
        if not job.paths.result_pickle.exists():
            return None
        error = job.exception()
        return int(job.result()) if error is None else 1


def _queue() -> dict[str, str] | None:
    """The ids of our jobs in SLURM's queue by name; None if it does not answer."""
    command = ["squeue", "--me", "--noheader", "--format=%i %j"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (subprocess.SubprocessError, OSError):
        return None
    return {name: number for number, _, name in (line.partition(" ") for line in done.stdout.splitlines())}


def _submitit(resources: Slurm, folder: Path) -> Any:
    if shutil.which("sbatch") is None or shutil.which("squeue") is None:
        raise ConfigError("executor: slurm needs SLURM's commands sbatch and squeue; local is for this machine")
    try:
        import submitit
    except ImportError:
        raise ConfigError('executor: slurm needs submitit; pip install "varshare-pl[study]"') from None
    optional = {
        "slurm_partition": resources.partition,
        "mem_gb": resources.memory_gb,
        "gpus_per_node": resources.gpus or None,
        "slurm_setup": list(resources.setup) or None,
        "slurm_additional_parameters": dict(resources.options) or None,
    }
    executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=MANY)
    executor.update_parameters(
        timeout_min=max(round(60 * resources.hours), 1),
        cpus_per_task=resources.cpus,
        slurm_signal_delay_s=resources.notice,
        slurm_stderr_to_stdout=True,
        **{key: value for key, value in optional.items() if value is not None},
    )
    return executor
