"""The parser of commands that take a few options."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from varshare_pl.errors import ConfigError
from varshare_pl.paths import user_path


class CommandParser(argparse.ArgumentParser):
    """Errors in one line; options are written whole.

    Args:
        command: Of ``varshare``.
        description: For its help.
    """

    def __init__(self, command: str, description: str) -> None:
        super().__init__(prog=f"varshare {command}", description=description, allow_abbrev=False)
        self._command = command

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self._command}: {message}; 'varshare {self._command} --help' lists all options")


def path_argument(given: str) -> Path:
    """The ``type`` of a path."""
    try:
        return user_path(given)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
