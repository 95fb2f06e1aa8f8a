"""Running ``fit`` and ``validate``: for the command line, and for Python."""

from __future__ import annotations

import sys
from pathlib import Path

from lightning.fabric.utilities.exceptions import MisconfigurationException

from varshare_pl.cli.lightning import VarShareCLI
from varshare_pl.cli.messages import one_line
from varshare_pl.cli.process import leave_no_trace
from varshare_pl.errors import ConfigError


def run(args: list[str], resume: Path | None = None) -> int:
    """Run ``fit`` or ``validate`` with these command-line arguments; gives the exit code.

    Args:
        args: Beginning with "fit" or "validate".
        resume: Folder of the run that a fit goes on with.
    """
    cli = start(args, resume)
    if cli.signals.received is None or not cli.signals.agreed or not cli.trainer.is_global_zero:
        return 0  # a process that ended with an error code would have Lightning kill the first one
    hint = f"; go on with: varshare resume {cli.trainer.default_root_dir}" if args[0] == "fit" else ""
    print(f"varshare: stopped by {cli.signals.received.name}{hint}", file=sys.stderr)
    return 128 + cli.signals.received


def start(args: list[str], resume: Path | None = None, lines: bool = False) -> VarShareCLI:
    """Run ``fit`` or ``validate`` to its end, or to the signal that stops it; the arguments are ``VarShareCLI``'s.

    Raises:
        ConfigError: for a mistake in the arguments.
        SystemExit: after ``--help`` and ``--print_config``.
    """
    with leave_no_trace():
        try:
            return VarShareCLI(args, resume, lines)
        except MisconfigurationException as error:
            raise ConfigError(one_line(str(error))) from error
        except SystemExit as error:
            if isinstance(error.__context__, KeyboardInterrupt):  # Lightning turns one into the other
                raise KeyboardInterrupt from error
            raise
