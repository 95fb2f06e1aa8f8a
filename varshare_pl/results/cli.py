"""``varshare plot``: draw the plots of finished, stopped or running runs again."""

from __future__ import annotations

import argparse
from pathlib import Path

from varshare_pl.errors import ConfigError


def plot_command(argv: list[str]) -> int:
    """Draw each run's plots from its files and print the paths of the images."""
    parser = argparse.ArgumentParser(
        prog="varshare plot",
        description="Draw a run's plots again from its heartbeat.csv and diagnostics.csv, into RUN/plots.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, as logs/NAME/seed_1")
    runs: list[Path] = parser.parse_args(argv).runs
    for run in runs:
        if not run.is_dir():
            raise ConfigError(f"{run} is not a folder")

    from varshare_pl.results.plots import plot_run  # matplotlib takes half a second to load

    for run in runs:
        for path in plot_run(run):
            print(path)
    return 0
