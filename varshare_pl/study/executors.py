"""The executors by the names that ``executor`` and ``--executor`` take; each is loaded only where it is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from varshare_pl.study.executor import Executor
from varshare_pl.study.local import ForkServer, LocalExecutor
from varshare_pl.study.resources import Ray, Slurm
from varshare_pl.study.runs import Run


@dataclass(frozen=True)
class Needs:
    """What executors are made of; each takes what it needs.

    Attributes:
        server: Makes processes on this machine.
        main: Runs a command line of ``varshare`` and gives its exit code.
        folder: Of the study.
        log: The file for a run's output.
        slots: How many runs at once; None leaves it to the executor.
        slurm: What a job asks of SLURM.
        ray: What a run asks of a Ray cluster.
    """

    server: ForkServer
    main: Callable[[list[str]], int]
    folder: Path
    log: Callable[[Run], Path]
    slots: int | None
    slurm: Slurm
    ray: Ray


def _local(needs: Needs) -> Executor:
    return LocalExecutor(needs.server, needs.main, needs.log, needs.slots)


def _slurm(needs: Needs) -> Executor:
    from varshare_pl.study.slurm import SlurmExecutor

    return SlurmExecutor(needs.slurm, needs.main, needs.folder, needs.slots)


def _ray(needs: Needs) -> Executor:
    from varshare_pl.study.ray_cluster import RayExecutor

    return RayExecutor(needs.ray, needs.server.preload, needs.main, needs.log, needs.slots)


EXECUTORS: dict[str, Callable[[Needs], Executor]] = {"local": _local, "slurm": _slurm, "ray": _ray}
