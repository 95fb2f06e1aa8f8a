"""A study from Python: run it, and read what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from varshare_pl.api.frames import data_frame
from varshare_pl.cli.configs import resolve_config, resolve_study
from varshare_pl.errors import RunError
from varshare_pl.paths import user_path
from varshare_pl.results.look import Look
from varshare_pl.study.definition import read_study

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from varshare_pl.results.report import Report

WORDS = ("other", "network", "layer")  # columns in which nothing is ""
NUMBERS = ("x", "value", "std", "iqm", "low", "high")
BY_SIGNAL = 128  # from there on an exit code tells of a signal


class Study:
    """A study and its folder.

    Args:
        file: Its YAML file, or the name of a shipped one.
        logs_dir: Where runs go: ``logs_dir/<study>/<variant>/seed_<n>/``.

    Attributes:
        folder: ``logs_dir/<study>``.

    Raises:
        ConfigError: for a mistake in the file.
    """

    def __init__(self, file: str | Path, logs_dir: str | Path = "logs") -> None:
        self._file = resolve_study(str(file))
        self._logs_dir = user_path(logs_dir)
        self.folder = self._logs_dir / read_study(self._file, resolve_config).name

    def __repr__(self) -> str:
        return f"Study({self.folder})"

    def run(self, workers: int | None = None, retry_failed: bool = False) -> Study:
        """Run what is left of it, as ``varshare study`` does.

        Args:
            workers: Runs at once; None: one per core.
            retry_failed: Go on with failed runs too.

        Raises:
            ConfigError: for a mistake, before anything runs.
            RunError: if not all runs came to their ends.
            KeyboardInterrupt: once Ctrl-C has stopped it; to run it again goes on.
        """
        from varshare_pl.cli.main import main
        from varshare_pl.cli.study import study_command

        args = [str(self._file), "--logs_dir", str(self._logs_dir)]
        args += [] if workers is None else ["--workers", str(workers)]
        args += ["--retry-failed"] if retry_failed else []
        code = study_command(args, main)
        if code > BY_SIGNAL:
            raise KeyboardInterrupt("the study was stopped; run() goes on")
        if code:
            raise RunError(f"{self.folder}: not all runs are finished; what was printed above says which")
        return self

    @property
    def scores(self) -> pd.DataFrame:
        """The numbers of the report's ``scores.csv``, of the runs that are there: all its rows but the runs' states."""
        from varshare_pl.results.analysis import analyse
        from varshare_pl.results.numbers import COLUMNS, score_rows
        from varshare_pl.results.study import read_study as read_runs

        rows = (row for row in score_rows(analyse(read_runs(self.folder))) if row["metric"] != "state")
        table = [{name: row.get(name) or None if name in WORDS else row.get(name) for name in COLUMNS} for row in rows]
        return data_frame(table, ("seed", "task", "runs")).astype(dict.fromkeys(NUMBERS, float))

    def plot(self, name: str, **look: Any) -> Figure:
        """One of the report's figures by the name of its file: "answer", "curves_<suite>", …

        Args:
            name: That of its file.
            look: For a paper, such as ``width=3.3, font_size=8, titles=False``: the attributes of ``Look``.

        Raises:
            ConfigError: for a name that the report has no figure of, or a size that no figure can have.
        """
        from varshare_pl.results.analysis import analyse
        from varshare_pl.results.figures import report_figure
        from varshare_pl.results.study import read_study as read_runs

        return report_figure(analyse(read_runs(self.folder)), name, Look(**look))

    def report(self) -> Report:
        """What ``varshare report`` writes: ``.files`` has the paths, ``.text`` the main table."""
        from varshare_pl.results.report import write_report

        return write_report(self.folder)
