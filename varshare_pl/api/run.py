"""A run from Python: train it, go on with it, and read what it wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from varshare_pl.api.arguments import Config, config_arguments, method_arguments, option_arguments
from varshare_pl.api.frames import data_frame
from varshare_pl.cli.checks import check_arguments, resume_arguments
from varshare_pl.cli.configs import with_shipped_configs
from varshare_pl.errors import ConfigError
from varshare_pl.paths import user_path
from varshare_pl.results.columns import WHOLE
from varshare_pl.results.files import read_diagnostics, read_heartbeat
from varshare_pl.results.info import read_json
from varshare_pl.results.look import Look
from varshare_pl.run_folder import SUMMARY_FILE, config_file

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from varshare_pl.results.report import Report
    from varshare_pl.trained.policy import TrainedPolicy


@dataclass(frozen=True)
class Run:
    """The run in a folder. Everything is read when it is asked for, so that a run can be watched while it trains.

    Attributes:
        folder: The run's.
    """

    folder: Path

    @property
    def metrics(self) -> pd.DataFrame:
        """``heartbeat.csv``: a row for each rollout."""
        return data_frame(read_heartbeat(self.folder), WHOLE)

    @property
    def diagnostics(self) -> pd.DataFrame:
        """``diagnostics.csv``: a row for each value of a network, a layer or a task; what it is not of is missing."""
        rows = read_diagnostics(self.folder)
        frame = data_frame(vars(rows), ("task",))
        return frame.mask(frame.isin({"network": [""], "layer": [""], "task": [-1]}))

    @property
    def summary(self) -> dict[str, Any]:
        """``summary.json``; empty as long as the run is not at its end."""
        return read_json(self.folder / SUMMARY_FILE)

    @property
    def policy(self) -> TrainedPolicy:
        """The trained policy, of the newest checkpoint."""
        from varshare_pl.trained.policy import load_policy

        return load_policy(self.folder)

    def plot(self, name: str, **look: Any) -> Figure:
        """One of the images in the run's ``plots`` folder, by name: "returns", "sharing", "losses", …

        Args:
            name: That of its file.
            look: For a paper, such as ``width=3.3, font_size=8, titles=False``: the attributes of ``Look``.

        Raises:
            ConfigError: for a name that the run has no plot of, or a size that no figure can have.
        """
        from varshare_pl.results.plots import run_figure

        return run_figure(self.folder, name, Look(**look))

    def report(self) -> Report:
        """What ``varshare report`` writes: ``.files`` has the paths, ``.text`` the main table."""
        from varshare_pl.results.report import write_report

        return write_report(self.folder)

    def resume(self, options: Mapping[str, Any] | None = None) -> Run:
        """Go on where the run's last checkpoint was, as ``varshare resume`` does.

        Args:
            options: As for ``train``; those that would make another run of it are refused.

        Raises:
            ConfigError: for a mistake in the options, or if there is nothing left to do.
            KeyboardInterrupt: once a signal has stopped it between two rollouts.
        """
        return _start(resume_arguments(self.folder, option_arguments(options)), self.folder)


def train(
    config: Config,
    method: str | Path | None = None,
    seed: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> Run:
    """Train as ``varshare fit`` does, and write the same folder.

    Args:
        config: The name of a shipped config, the path of a file, or what a config file holds, as a dict.
        method: The name of a shipped method's config, such as "paco", or the path of a file; None: the config's.
        seed: Of the run; None: the config's.
        options: Those of ``varshare fit``, without dashes: ``{"data.total_env_steps": 50_000, "experiment": "wide"}``.

    Raises:
        ConfigError: for a mistake in one of them, in one line, before anything is written.
        RunError: if the run cannot go on.
        KeyboardInterrupt: once a signal has stopped it between two rollouts; ``load_run(folder).resume()`` goes on.
    """
    with config_arguments(config) as args:
        args = ["fit", *args, *method_arguments(method), *option_arguments(options)]
        args += [] if seed is None else option_arguments({"seed_everything": seed})
        return _start(with_shipped_configs(check_arguments(args)))


def load_run(folder: str | Path) -> Run:
    """The run in a folder, finished or not.

    Raises:
        ConfigError: if it is not the folder of a run.
    """
    path = user_path(folder)
    config_file(path, "load_run")
    return Run(path)


def _start(args: list[str], resume: Path | None = None) -> Run:
    from varshare_pl.cli.running import start

    try:
        cli = start(args, resume, lines=True)
    except SystemExit:
        raise ConfigError("options: help and print_config are of the command line alone") from None
    folder = Path(cli.trainer.default_root_dir)
    if cli.signals.received is not None:
        raise KeyboardInterrupt(f"stopped by {cli.signals.received.name}; load_run({str(folder)!r}).resume() goes on")
    return Run(folder)
