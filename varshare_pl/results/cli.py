"""``varshare plot`` and ``varshare report``: plots of one run, and the report of a study."""

from __future__ import annotations

from pathlib import Path

from varshare_pl.arguments import CommandParser, path_argument
from varshare_pl.errors import ConfigError


def plot_command(argv: list[str]) -> int:
    """Draw each run's plots from its files and print the paths of the images."""
    parser = CommandParser(
        "plot",
        "Draw a run's plots again from its heartbeat.csv and diagnostics.csv, into RUN/plots.",
    )
    parser.add_argument(
        "runs", nargs="+", type=path_argument, metavar="RUN", help="folder of a run, as logs/NAME/seed_1"
    )
    runs: list[Path] = parser.parse_args(argv).runs
    for run in runs:
        if not run.is_dir():
            raise ConfigError(f"{run} is not a folder")

    from varshare_pl.results.plots import plot_run  # matplotlib takes half a second to load

    for run in runs:
        for path in plot_run(run):
            print(path)
    return 0


def report_command(argv: list[str]) -> int:
    """Write a report, and print its main table and the paths of its files."""
    parser = CommandParser(
        "report",
        "Put the runs of a study, of an experiment or a single run together: mean ± standard deviation "
        "(n - 1) and IQM with 95 % bootstrap intervals over seeds, as one page (HTML and Markdown), figures (PNG and "
        "SVG), scores.csv, timings.csv and LaTeX tables, into FOLDER/report. Runs that are not finished are in the "
        "curves as far as they have come, and not in the final scores.",
    )
    parser.add_argument(
        "folder",
        type=path_argument,
        metavar="FOLDER",
        help="of a study, of several experiments, of one with its seeds (logs/complex_cartpole), or of a run",
    )
    folder: Path = parser.parse_args(argv).folder

    from varshare_pl.results.report import write_report

    report = write_report(folder)
    print(report.text)
    for path in report.files:
        print(path)
    return 0
