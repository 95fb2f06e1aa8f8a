"""``varshare plot`` and ``varshare report``: plots of one run, and the report of a study."""

from __future__ import annotations

from varshare_pl.arguments import CommandParser, path_argument
from varshare_pl.errors import ConfigError
from varshare_pl.results.look import add_look_options, look_of
from varshare_pl.results.statistics import INTERVALS


def plot_command(argv: list[str]) -> int:
    """Draw each run's plots from its files and print the paths of the images."""
    parser = CommandParser(
        "plot",
        "Draw a run's plots again from its heartbeat.csv and diagnostics.csv, into RUN/plots.",
    )
    parser.add_argument(
        "runs", nargs="*", type=path_argument, metavar="RUN", help="folder of a run, as logs/NAME/seed_1"
    )
    add_look_options(parser, "png")
    options = parser.parse_args(argv)
    runs, look = options.runs, look_of(options)
    if not runs:
        raise ConfigError("plot: the folder of a run is missing, as in: varshare plot logs/complex_cartpole/seed_1")
    for run in runs:
        if not run.is_dir():
            raise ConfigError(f"{run} is not a folder")

    from varshare_pl.results.plots import plot_run  # matplotlib takes half a second to load

    for run in runs:
        for path in plot_run(run, look=look, kind=options.format):
            print(path)
    return 0


def report_command(argv: list[str]) -> int:
    """Write a report, and print its main table and the paths of its files."""
    parser = CommandParser(
        "report",
        "Put the runs of a study, of an experiment or a single run together: mean ± standard deviation "
        "(n - 1) and IQM with 95 % intervals over seeds, as one page (HTML and Markdown), figures, "
        "scores.csv, timings.csv and LaTeX tables, into FOLDER/report. Runs that are not finished are in the "
        "curves as far as they have come, and not in the final scores.",
    )
    parser.add_argument(
        "folders",
        nargs="*",
        type=path_argument,
        metavar="FOLDER",
        help="of a study, of several experiments, of one with its seeds (logs/complex_cartpole), or of a run",
    )
    parser.add_argument(
        "--interval", choices=INTERVALS, default="bootstrap", help="of IQMs; t is wider and right for few runs"
    )
    add_look_options(parser, "svg")
    options = parser.parse_args(argv)
    look = look_of(options)
    if not options.folders:
        what = "the folder of a study, an experiment or a run"
        raise ConfigError(f"report: {what} is missing, as in: varshare report logs/complex_cartpole")
    folder, *more = options.folders
    if more:
        raise ConfigError(f"report: one folder at a time; {more[0]} is one too many")

    from varshare_pl.results.report import write_report

    report = write_report(folder, look, options.format, options.interval)
    print(report.text)
    for path in report.files:
        print(path)
    return 0
