"""Entry of the ``varshare`` command: finds the subcommand and loads only what that one needs.

Importing torch and lightning takes seconds; ``--help``, ``--version``, ``plot`` and ``report`` do without.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from varshare_pl.cli.console import console
from varshare_pl.errors import ConfigError, RunError
from varshare_pl.paths import user_path
from varshare_pl.text import plain

HELP = """\
usage: varshare [-h] [--version] COMMAND ...

Variational parameter sharing for multi-task deep RL.

commands:
  fit         train: varshare fit --config complex_cartpole
  validate    evaluate a checkpoint: varshare validate --config complex_cartpole --ckpt_path FILE
  describe    show a config's networks and their sizes, without training: varshare describe --config complex_cartpole
  resume      go on with a run that was stopped: varshare resume logs/complex_cartpole/seed_1
  play        watch a run's policy on every task: varshare play logs/complex_cartpole/seed_1
  prune       drop what a task barely has of its own: varshare prune logs/complex_cartpole/seed_1 --threshold 1
  plot        rebuild the plots of finished or running runs: varshare plot logs/complex_cartpole/seed_1
  study       run all runs of a study: varshare study sharing
  report      the report of a study, an experiment's seeds or a run: varshare report logs/complex_cartpole
  send        send runs to MLflow or trackio: varshare send logs/complex_cartpole/seed_1 --to mlflow
  export-hub  a run's policy as a folder for a model hub: varshare export-hub logs/complex_cartpole/seed_1 FOLDER
  completion  print a script for the shell that completes options: source <(varshare completion bash)

options:
  -h, --help  show this help
  --version   show the version

'varshare COMMAND --help' explains every option of a command;
'varshare fit --print_config' prints all of them with their defaults as a config file.
"""

RESUME_HELP = """\
usage: varshare resume FOLDER [options]

Go on with the run in FOLDER where its last checkpoint was, as if it had never stopped. Options of 'varshare fit' that
do not make another run of it may follow: the length (data.total_env_steps), trainer.*, logger, plots.*, progress.*,
checkpoint.*, artifacts.*, threads, data.backend, data.num_workers, data.worker_timeout.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code: 0 fine, 2 bad input, 130 stopped by Ctrl-C."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        with console(program=argv is None):
            return _answer(args)
    except RunError as error:  # of the console
        print(f"varshare: error: {error}", file=sys.stderr)
        return 1


def _answer(args: list[str]) -> int:
    """Run a command; an error is told in one line."""
    parent = os.getppid()
    try:
        return _dispatch(args)
    except (ConfigError, RunError, OSError) as error:
        if not _parent_ends(parent):
            print(f"varshare: error: {plain(' '.join(str(error).split()))}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        print("varshare: interrupted", file=sys.stderr)
        return 130
    except SystemExit as stop:  # after --help and --print_config
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)


def _parent_ends(parent: int) -> bool:
    """Whether this process was started for a further device, and the first one ends as well: then that one tells why.

    It also has to be the first to end, for Lightning would kill it.
    """
    if os.environ.get("LOCAL_RANK", "0") == "0":
        return False
    deadline = time.monotonic() + 10.0
    while os.getppid() == parent and time.monotonic() < deadline:
        time.sleep(0.05)
    return os.getppid() != parent


def _dispatch(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0 if args else 2
    if args[0] == "--version":
        from varshare_pl import __version__

        print(f"varshare {__version__}")
        return 0
    commands: dict[str, Callable[[list[str]], int]] = {
        "fit": _lightning,
        "validate": _lightning,
        "describe": _describe,
        "resume": _resume,
        "play": _play,
        "prune": _prune,
        "plot": _plot,
        "report": _report,
        "study": _study,
        "send": _send,
        "export-hub": _export_hub,
        "completion": _completion,
    }
    try:
        Path.cwd()
    except FileNotFoundError:
        raise ConfigError("the current folder is gone; change to one that is there") from None
    if args[0] not in commands:
        *most, last = commands
        raise ConfigError(f"{args[0]} is not a command; {', '.join(most)} and {last} are")
    return commands[args[0]](args)


def _lightning(args: list[str]) -> int:
    from varshare_pl.cli.checks import check_arguments
    from varshare_pl.cli.configs import with_shipped_configs
    from varshare_pl.cli.imports import load_run

    args = with_shipped_configs(check_arguments(args))  # mistakes here are told before the heavy imports
    return load_run()(args, None)


def _describe(args: list[str]) -> int:
    from varshare_pl.cli.checks import check_arguments
    from varshare_pl.cli.configs import with_shipped_configs
    from varshare_pl.cli.imports import load_run

    args = with_shipped_configs(check_arguments(args))
    load_run()
    from varshare_pl.cli.describe import describe

    return describe(args)


def _resume(args: list[str]) -> int:
    from varshare_pl.cli.checks import resume_arguments
    from varshare_pl.cli.imports import load_run

    if args[1:2] in ([], ["-h"], ["--help"]):
        print(RESUME_HELP, end="")
        return 0 if args[1:] else 2
    folder = user_path(args[1])
    return load_run()(resume_arguments(folder, args[2:]), folder)


def _play(args: list[str]) -> int:
    from varshare_pl.cli.play import play_command

    return play_command(args[1:])


def _study(args: list[str]) -> int:
    from varshare_pl.cli.study import study_command

    return study_command(args[1:], main)


def _completion(args: list[str]) -> int:
    from varshare_pl.cli.completion import completion_command
    from varshare_pl.results.cli import plot_command, report_command

    few = {"play": _play, "prune": _prune, "study": _study}
    light = {"plot": lambda args: plot_command(args[1:]), "report": lambda args: report_command(args[1:])}
    return completion_command(args[1:], few | light)


def _prune(args: list[str]) -> int:
    from varshare_pl.cli.prune import prune

    return prune(args)


def _plot(args: list[str]) -> int:
    from varshare_pl.results.cli import plot_command

    return plot_command(args[1:])


def _report(args: list[str]) -> int:
    from varshare_pl.results.cli import report_command

    return report_command(args[1:])


def _send(args: list[str]) -> int:
    from varshare_pl.cli.send import send_command

    return send_command(args[1:])


def _export_hub(args: list[str]) -> int:
    from varshare_pl.cli.export_hub import export_hub

    return export_hub(args[1:])
