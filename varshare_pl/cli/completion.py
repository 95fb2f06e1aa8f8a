"""``varshare completion SHELL``: a script with which the shell completes commands, options and their values."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from varshare_pl.arguments import SHOW_PARSER, CommandParser, ParserShownError, path_argument
from varshare_pl.errors import ConfigError

SHELLS = ("bash", "zsh", "tcsh")
Command = Callable[[list[str]], int]


def completion_command(argv: list[str], commands: dict[str, Command]) -> int:
    """Print the script; gives the exit code.

    Args:
        argv: The shell.
        commands: What runs each command of few options, given its name and its arguments.

    Raises:
        ConfigError: where shtab, which makes the script, is not installed.
    """
    parser = CommandParser("completion", "Print a script for the shell that completes commands, options and values.")
    parser.add_argument("shell", metavar="SHELL", help=", ".join(SHELLS))
    shell = parser.parse_args(argv).shell
    if shell not in SHELLS:
        raise ConfigError(f"completion: {shell} is not allowed; {', '.join(SHELLS)} are")
    try:
        import shtab
    except ImportError:
        raise ConfigError('completion: needs shtab; pip install "varshare-pl[completion]"') from None
    print(shtab.complete(_all_commands(commands), shell), end="")
    return 0


def option_parser(command: str) -> Any:
    """The parser of ``fit`` or ``validate`` with all options."""
    from varshare_pl.cli.lightning import VarShareCLI

    class OnlyParser(VarShareCLI):
        def parse_arguments(self, parser: Any, args: Any) -> NoReturn:
            raise ParserShownError(self._subcommand_parsers[command])

    try:
        OnlyParser([command])
    except ParserShownError as shown:
        return shown.parser
    raise AssertionError("LightningCLI made no parser")


def _all_commands(commands: dict[str, Command]) -> argparse.ArgumentParser:
    """One parser with a parser of each command."""
    whole = argparse.ArgumentParser(prog="varshare")
    subcommands = whole.add_subparsers()
    fit, validate = option_parser("fit"), option_parser("validate")
    resume = argparse.ArgumentParser(parents=[fit], add_help=False)
    resume.add_argument("folder", type=path_argument)
    parsers = {"fit": fit, "validate": validate, "describe": validate, "resume": resume}
    for name, command in commands.items():
        try:
            command([name, SHOW_PARSER])
        except ParserShownError as shown:
            parsers[name] = shown.parser
    for name, parser in parsers.items():
        for action in parser._actions:
            _complete_values(action)
        subcommands.add_parser(name, help=name)  # without a help shtab takes it for a secret
        subcommands.choices[name] = parser
    subcommands.add_parser("completion", help="completion").add_argument("shell", choices=SHELLS)
    return whole


def _complete_values(action: Any) -> None:
    """Say of an option's action what shtab is to offer for its value."""
    from shtab import FILE

    from varshare_pl.cli.configs import shipped_configs
    from varshare_pl.cli.parser import CHOICES

    names = {choice.key: sorted(choice.names()) for choice in CHOICES}
    if action.dest == "config":
        action.choices = sorted(shipped_configs())
    elif action.dest in names:
        action.choices = names[action.dest]
    elif getattr(action, "_typehint", None) is bool:
        action.choices = ["true", "false"]
    elif action.type is path_argument or action.dest in ("logs_dir", "ckpt_path", "init_from"):
        action.complete = FILE
