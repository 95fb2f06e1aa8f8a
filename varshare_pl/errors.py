"""Errors that end in one clear line on the terminal, not in a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ConfigError(ValueError):
    """Bad input; its text is one clear line that names the key, the value and what is allowed."""


class RunError(RuntimeError):
    """A run that cannot go on; its text is one line that says what happened and where."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says while a file is written (no space left, …) into one line that names the file."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}; see to it, then 'varshare resume' the run"
        ) from error


class EnvError(RunError):
    """An env raised, died, or gave something that is no observation or reward; the weights are whole."""


class NonFiniteError(RunError):
    """A loss or gradient is not finite; the step was not taken."""
