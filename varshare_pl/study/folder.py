"""The folder of a study: ``study.json``, the records of failures, and its lock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from varshare_pl.errors import ConfigError
from varshare_pl.files import write_json
from varshare_pl.results.info import read_json
from varshare_pl.run_folder import LOCK_FILE
from varshare_pl.study.definition import Study
from varshare_pl.study.runs import Run, State, locked

STUDY_FILE = "study.json"
FAILURES = "failures"
OUTPUT = "output"


class StudyFolder:
    """``<logs_dir>/<study>/``: what a study writes beside its runs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def check(self, study: Study) -> None:
        """See that the folder is free, or holds this study.

        Raises:
            ConfigError: if it holds something else, or runs of variants that the study does not have any more.
        """
        known = read_json(self.path / STUDY_FILE)
        if self.path.exists() and not known and any(path.name != LOCK_FILE for path in self.path.iterdir()):
            raise ConfigError(f"{self.path} exists and is not a study's folder; give the study another name")
        names = {variant.name for variant in study.variants}
        for variant in known.get("variants", []):
            name = str(variant["name"])
            if name not in names and (self.path / name).exists():
                raise ConfigError(
                    f"{self.path / name}: the study's file has no {name} any more; put it back, give the study another "
                    "name, or move the folder away"
                )

    def lock(self) -> FileLock:
        """Make the folder and take the one lock on running the study.

        Raises:
            ConfigError: if another process runs it, or the folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            held = FileLock(self.path / LOCK_FILE)
            held.acquire(timeout=0)
        except Timeout:
            raise self._in_use() from None
        except OSError as error:
            raise ConfigError(f"--logs_dir: cannot write to {self.path}: {error.strerror}") from error
        return held

    def check_unused(self) -> None:
        """See that no other process runs the study.

        Raises:
            ConfigError: if one does.
        """
        if locked(self.path):
            raise self._in_use()

    def _in_use(self) -> ConfigError:
        return ConfigError(f"{self.path}: another process runs this study; wait for it or stop it")

    def describe(self, study: Study, env_steps: Mapping[str, int]) -> None:
        """Write ``study.json``, which the report reads.

        Args:
            study: The study.
            env_steps: Length of a run of each variant, by its name.
        """
        lengths = set(env_steps.values())
        now = datetime.now(UTC).isoformat(timespec="seconds")
        content = {
            "name": study.name,
            "description": study.description,
            "created": read_json(self.path / STUDY_FILE).get("created", now),
            "variants": [
                {"name": one.name, "suite": one.suite, "method": one.method, "args": list(one.args)}
                for one in study.variants
            ],
            "seeds": list(study.seeds),
            "env_steps": lengths.pop() if len(lengths) == 1 else None,
            "reference": study.reference,
            "method_order": list(dict.fromkeys([*study.shown.order, *study.methods])),
            "method_names": study.shown.names,
            "method_colors": study.shown.colors,
            "suite_order": study.suites,
            "tuning": study.budget,
            "expected_head_energy": dict(study.expected_head_energy),
        }
        write_json(self.path / STUDY_FILE, content)

    def log(self, run: Run) -> Path:
        """What a run prints is appended to this file."""
        return self.path / OUTPUT / f"{run.name}.log"

    def state(self, run: Run) -> State:
        """What the run's files say; a run under way looks interrupted here."""
        if run.finished:
            return State.FINISHED
        if self._failure(run).is_file():
            return State.FAILED
        return State.INTERRUPTED if run.begun else State.WAITING

    def record_failure(self, run: Run, exit_code: int, message: str, log: Path) -> None:
        """Remember that a run failed; it is not started again until ``forget_failure``."""
        self._failure(run).parent.mkdir(exist_ok=True)
        content = {
            "variant": run.name.rpartition("__")[0],
            "seed": int(run.name.rpartition("_")[2]),
            "exit_code": exit_code,
            "message": message,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "log": log.relative_to(self.path).as_posix(),
        }
        write_json(self._failure(run), content)

    def failure(self, run: Run) -> dict[str, Any]:
        """The record of a run's failure, empty if it did not fail."""
        return read_json(self._failure(run))

    def forget_failures(self, runs: Sequence[Run]) -> None:
        """Let the failed ones among the runs be started again."""
        for run in runs:
            self._failure(run).unlink(missing_ok=True)

    def _failure(self, run: Run) -> Path:
        return self.path / FAILURES / f"{run.name}.json"


def last_words(log: Path, exit_code: int) -> str:
    """Why a run failed, in one line: its error, or the last that it printed, or the signal that ended it."""
    try:
        lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    except FileNotFoundError:
        lines = []
    spoken = [line for line in lines if line]
    errors = [line for line in spoken if line.startswith("varshare: error: ")]
    if exit_code < 0:
        return f"ended by signal {-exit_code}" + (" (out of memory?)" if exit_code == -9 else "")
    return (errors or spoken or [f"exit code {exit_code}"])[-1].removeprefix("varshare: error: ")
