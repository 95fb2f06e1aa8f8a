"""Where a run's files go, and what it was: ``<logs_dir>/<experiment>/seed_<n>/``."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from varshare_pl.errors import ConfigError

CONFIG_FILE = "config.yaml"
SUMMARY_FILE = "summary.json"
CHECKPOINTS = "checkpoints"


def run_folder(logs_dir: Path | str, experiment: str, seed: int) -> Path:
    """The folder of a run.

    Raises:
        ConfigError: if the experiment's name would lead elsewhere.
    """
    if not re.fullmatch(r"[\w.+-]+(/[\w.+-]+)*", experiment) or ".." in experiment.split("/"):
        raise ConfigError(f"--experiment: {experiment!r} is not allowed; letters, digits and . _ + - / are")
    return Path(logs_dir) / experiment / f"seed_{seed}"


def default_experiment(suite: str, method: str) -> str:
    """A name for runs of a method on a suite: complex_cartpole, complex_cartpole_shared, …"""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", suite.replace("CartPole", "Cartpole")).lower()
    return snake if method == "varshare" else f"{snake}_{method}"


def check_free(folder: Path, overwrite: bool) -> None:
    """See that a new run may be written to the folder.

    Raises:
        ConfigError: if there is a run already, or something that is no run, or the folder cannot be written.
    """
    try:
        _check_writable(folder)
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return
    except OSError as error:
        raise ConfigError(f"--logs_dir: cannot use {folder}: {error.strerror}") from error
    if not (folder / CONFIG_FILE).exists():
        raise ConfigError(f"{folder} exists and is not a run's folder; give another --experiment or --logs_dir")
    if not overwrite:
        raise ConfigError(
            f"{folder} holds a run already; give another --experiment or --seed_everything, "
            "or --overwrite true to replace it"
        )


def make_empty(folder: Path) -> None:
    """Make the folder; a run that is in it is deleted, so ask ``check_free`` first."""
    try:
        if (folder / CONFIG_FILE).exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--logs_dir: cannot write to {folder}: {error.strerror}") from error


def _check_writable(folder: Path) -> None:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if there != folder and not there.is_dir():
        raise ConfigError(f"--logs_dir: {there} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"--logs_dir: {there} is not writable")
