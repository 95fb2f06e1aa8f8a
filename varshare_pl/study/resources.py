"""What the runs of a study ask of a cluster: the sections ``slurm`` and ``ray`` of its file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from varshare_pl.study.values import check_keys, integer, mapping, positive, refuse, text, texts

AUTO = "auto"


def ray_address(value: Any, key: str) -> str:
    """Where the head of a Ray cluster listens, or auto.

    Raises:
        ConfigError: for anything else.
    """
    host, _, port = text(value, key).rpartition(":")
    if value != AUTO and (not host or ":" in host or not port.isdecimal()):
        raise refuse(key, value, f"HOST:PORT of a cluster's head, or {AUTO}, is")
    return str(value)


def _number_of_gpus(value: Any, key: str) -> int:
    return integer(value, key, 0)


@dataclass(frozen=True)
class Slurm:
    """What each job asks of SLURM; None leaves it to the cluster."""

    partition: str | None = None
    hours: float = 24.0  # after which a job is put back into the queue and goes on
    memory_gb: float | None = None
    cpus: int = 1
    gpus: int = 0
    notice: int = 90  # seconds before that time at which a job has to stop
    setup: tuple[str, ...] = ()  # shell commands before the job
    options: Mapping[str, Any] = field(default_factory=dict)  # further options of sbatch


@dataclass(frozen=True)
class Ray:
    """Where the Ray cluster is, and what each run asks of a node."""

    address: str = AUTO  # of $RAY_ADDRESS, or the cluster that this machine is part of, or one of it alone
    cpus: int = 1
    gpus: int = 0


_SLURM: dict[str, Callable[[Any, str], Any]] = {
    "partition": text,
    "hours": positive,
    "memory_gb": positive,
    "cpus": integer,
    "gpus": _number_of_gpus,
    "notice": integer,
    "setup": texts,
    "options": mapping,
}
_RAY: dict[str, Callable[[Any, str], Any]] = {"address": ray_address, "cpus": integer, "gpus": _number_of_gpus}


def read_slurm(value: Any) -> Slurm:
    """Check the section ``slurm``.

    Raises:
        ConfigError: for whatever is wrong in it.
    """
    return Slurm(**_checked(value, "slurm", _SLURM))


def read_ray(value: Any) -> Ray:
    """Check the section ``ray``.

    Raises:
        ConfigError: for whatever is wrong in it.
    """
    return Ray(**_checked(value, "ray", _RAY))


def _checked(value: Any, section: str, checks: Mapping[str, Callable[[Any, str], Any]]) -> dict[str, Any]:
    """The keys that are given, each checked; null is as good as absent."""
    content = mapping(value, section)
    check_keys(content, checks, f"{section}.")
    return {key: checks[key](item, f"{section}.{key}") for key, item in content.items() if item is not None}
