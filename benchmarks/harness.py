"""Runs cases: each in a process of its own, one after the other, one thread, several rounds.

Ratios are taken within a round, so that a machine whose speed drifts does not bend them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from benchmarks import machine
from benchmarks.cases import CASES, SPEED, Figures, NotAvailableError, cores
from benchmarks.ratios import Ratio
from benchmarks.results import CaseResult, Results

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
CACHES = ("TORCHINDUCTOR_CACHE_DIR", "VARSHARE_CACHE")  # torch's, and ours of what it compiled
TIMEOUT = 1200  # seconds of one case
UNAVAILABLE = "unavailable"


class CaseFailedError(Exception):
    """A case ended with an error; the message is its last line, ``output`` all it wrote to stderr."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


def measure(ratios: Sequence[Ratio], rounds: int, scale: float = 1.0, cold: bool = True) -> Results:
    """Run the cases of these ratios in turn, so many rounds.

    Args:
        ratios: What is asked for.
        rounds: How often each case runs.
        scale: How much work a case does, 1 for real figures.
        cold: Give compilers an empty cache for the first round, so that its time is the one a user first sees.
    """
    names = list(dict.fromkeys(name for ratio in ratios for name in ratio.cases))
    results = Results(
        machine.facts() | {"rounds": rounds, "scale": scale, "pinned": hasattr(os, "sched_setaffinity")},
        {name: CaseResult() for name in names},
        [ratio.name for ratio in ratios],
    )
    with tempfile.TemporaryDirectory() as cache:
        for number in range(rounds):
            for name in names:
                if not results.cases[name].reason:
                    # A cache for each case: in the first round none finds what another one compiled.
                    env = dict.fromkeys(CACHES, f"{cache}/{name}") if cold else {}
                    _measure(name, results.cases[name], number, scale, env)
    return results


def _measure(name: str, result: CaseResult, number: int, scale: float, env: dict[str, str]) -> None:
    """One round of one case, told on stderr."""
    try:
        figures = run_case(name, scale, env)
        result.rounds.append(figures)
        told = ", ".join(
            f"{key} {value:,.0f}" if key == SPEED else f"{key} {value:.4g}" for key, value in figures.items()
        )
    except NotAvailableError as error:
        result.reason = told = f"not available: {error}"
    except CaseFailedError as error:
        result.reason = told = f"failed: {error}"
        result.failed = True
        print(error.output, file=sys.stderr)
    print(f"round {number + 1}  {name:24s} {told}", file=sys.stderr, flush=True)


def run_case(name: str, scale: float, env: dict[str, str] | None = None) -> Figures:
    """Run a case in a process of its own.

    Raises:
        NotAvailableError: if it cannot run here.
        CaseFailedError: if it ended with an error.
    """
    command = [sys.executable, "-m", "benchmarks", "case", name, "--scale", str(scale)]
    options: dict[str, Any] = {"cwd": machine.ROOT, "capture_output": True, "text": True, "timeout": TIMEOUT}
    try:
        done = subprocess.run(
            command, env=os.environ | dict.fromkeys(THREADS, "1") | (env or {}), check=False, **options
        )
    except subprocess.TimeoutExpired as error:
        raise CaseFailedError(f"took more than {TIMEOUT} seconds") from error
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
        raise CaseFailedError(last, done.stderr)
    content: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if UNAVAILABLE in content:
        raise NotAvailableError(content[UNAVAILABLE])
    return content


def case_here(name: str, scale: float) -> None:
    """What the process of a case does: pin, run, print the figures as its last line."""
    case = CASES[name]
    content: dict[str, Any]
    try:
        if cores() < case.cores:
            raise NotAvailableError(f"needs {case.cores} cores")
        if case.cores == 1:
            pin()
        content = dict(case.run(scale))
    except NotAvailableError as error:
        content = {UNAVAILABLE: str(error)}
    if os.environ.get("LOCAL_RANK", "0") == "0":  # a second process of the same run tells nothing
        print(json.dumps(content), flush=True)


def pin() -> None:
    """Keep this process and its children on one core, where the system can: the last one, away from interrupts."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
