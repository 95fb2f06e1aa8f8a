"""``varshare send``: finished or running runs into a tracker of experiments, from their files."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from varshare_pl.arguments import CommandParser, path_argument
from varshare_pl.errors import ConfigError
from varshare_pl.run_folder import config_file

TRACKERS = ("mlflow", "trackio")


def send_command(args: list[str]) -> int:
    """Send runs to a tracker; gives the exit code."""
    parser = CommandParser(
        "send",
        "Send runs to a tracker of experiments, from their files: the config, each rollout's values with env steps as "
        "the step, and the results. Sent twice, a run is there twice.",
    )
    parser.add_argument(
        "runs", nargs="+", type=path_argument, metavar="RUN", help="folder of a run, as logs/NAME/seed_1"
    )
    parser.add_argument("--to", choices=TRACKERS, required=True, help="the tracker; its package must be installed")
    parser.add_argument("--project", default="varshare", metavar="NAME", help="where there; default: varshare")
    options = parser.parse_args(args)
    runs: list[Path] = options.runs
    for run in runs:
        config_file(run, "send")
    if find_spec(options.to) is None:
        raise ConfigError(f"--to: {options.to} is not installed; pip install {options.to}")

    from varshare_pl.cli.trackers import send  # loads torch, for the names of methods

    for run in runs:
        print(f"{run}: {send(run, options.to, options.project)} rollouts sent to {options.to}, {options.project}")
    return 0
