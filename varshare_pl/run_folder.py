"""Where a run's files go, and what it was: ``<logs_dir>/<experiment>/seed_<n>/``."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from filelock import FileLock, Timeout

from varshare_pl.errors import ConfigError
from varshare_pl.paths import user_path

CONFIG_FILE = "config.yaml"
SUMMARY_FILE = "summary.json"
CHECKPOINTS = "checkpoints"
LOCK_FILE = ".lock"
TRIAL = ("WANDB_SWEEP_ID", "WANDB_RUN_ID")  # variables by which a sweep's agent names a trial


def run_folder(logs_dir: Path | str, experiment: str, seed: int) -> Path:
    """The folder of a run.

    Raises:
        ConfigError: if the experiment's name would lead elsewhere.
    """
    if not re.fullmatch(r"[\w.+-]+(/[\w.+-]+)*", experiment) or ".." in experiment.split("/"):
        raise ConfigError(f"--experiment: {experiment!r} is not allowed; letters, digits and . _ + - / are")
    return user_path(logs_dir) / experiment / f"seed_{seed}"


def of_trial(experiment: str) -> str:
    """The experiment of a run: below it one of its own for each trial of a W&B sweep, ``EXPERIMENT/SWEEP/RUN``.

    A sweep's agent gives all trials the same command but for what it varies, so they would meet in one folder.
    """
    trial = [os.environ.get(name, "") for name in TRIAL]
    return "/".join([experiment, *trial]) if all(trial) else experiment


def config_file(folder: Path, command: str) -> Path:
    """The config of the run in a folder.

    Raises:
        ConfigError: naming the command that needs it, if it is not the folder of a run.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ConfigError(f"{command}: {folder} is not the folder of a run, it has no {CONFIG_FILE}")
    return path


def default_experiment(suite: str, method: str, combiner: str | None = None) -> str:
    """A name for runs of a method on a suite: complex_cartpole, complex_cartpole_shared, …_shared_pcgrad, …"""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", suite.replace("CartPole", "Cartpole")).lower()
    return "_".join([snake, *([] if method == "varshare" else [method]), *([combiner] if combiner else [])])


def check_free(folder: Path, overwrite: bool) -> None:
    """See that a new run may be written to the folder.

    Raises:
        ConfigError: if there is a run already, or something that is no run, or the folder cannot be written.
    """
    try:
        _check_writable(folder)
        # A run that is killed while it writes its config leaves a part of it.
        left = {LOCK_FILE, f".{CONFIG_FILE}.tmp"}
        if not folder.exists() or (folder.is_dir() and {path.name for path in folder.iterdir()} <= left):
            return
    except OSError as error:
        raise ConfigError(f"--logs_dir: cannot use {folder}: {error.strerror}") from error
    if not (folder / CONFIG_FILE).exists():
        raise ConfigError(f"{folder} exists and is not a run's folder; give another --experiment or --logs_dir")
    if not overwrite:
        raise ConfigError(
            f"{folder} holds a run already; give another --experiment or --seed_everything, "
            f"'varshare resume {folder}' to go on with it, or --overwrite true to replace it"
        )


def lock(folder: Path) -> FileLock:
    """Make the folder and take the one lock on writing to it; the system frees it when the process ends.

    Raises:
        ConfigError: if another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(folder / LOCK_FILE)
        held.acquire(timeout=0)
    except Timeout:
        raise ConfigError(
            f"{folder}: another process is writing this run; wait for it or give another --experiment"
        ) from None
    except OSError as error:
        raise ConfigError(f"--logs_dir: cannot write to {folder}: {error.strerror}") from error
    return held


def make_empty(folder: Path) -> None:
    """Delete the run that is in the folder, whose lock is held; ask ``check_free`` first."""
    try:
        # The config last: until then the folder is known as a run's.
        for path in sorted(folder.iterdir(), key=lambda path: path.name == CONFIG_FILE):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != LOCK_FILE:
                path.unlink()
    except OSError as error:
        raise ConfigError(f"--logs_dir: cannot write to {folder}: {error.strerror}") from error


def _check_writable(folder: Path) -> None:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if there != folder and not there.is_dir():
        raise ConfigError(f"--logs_dir: {there} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"--logs_dir: {there} is not writable")
