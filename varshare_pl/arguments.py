"""The parser of commands that take a few options."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

from varshare_pl.errors import ConfigError
from varshare_pl.paths import user_path

# This very object as the first argument has a command give its parser away, and do nothing.
SHOW_PARSER = "show the parser"


class ParserShownError(Exception):
    """A parser that was asked for.

    Args:
        parser: The parser.
    """

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__("the parser is shown, nothing is done")
        self.parser = parser


class CommandParser(argparse.ArgumentParser):
    """Errors in one line; options are written whole.

    Args:
        command: Of ``varshare``.
        description: For its help.
    """

    def __init__(self, command: str, description: str) -> None:
        super().__init__(prog=f"varshare {command}", description=description, allow_abbrev=False)
        self._command = command

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """What the arguments say.

        Raises:
            ParserShownError: where the first is ``SHOW_PARSER``.
        """
        if args and args[0] is SHOW_PARSER:
            raise ParserShownError(self)
        return super().parse_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self._command}: {message}; 'varshare {self._command} --help' lists all options")


def path_argument(given: str) -> Path:
    """The ``type`` of a path."""
    try:
        return user_path(given)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
