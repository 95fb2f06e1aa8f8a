"""The loggers behind ``--logger``: W&B, TensorBoard and CSV, with env steps on the x axis, files in the run's folder.

All of them go on with what is in the folder when a run is resumed. They open nothing before they are first used.
"""

from __future__ import annotations

import csv
import netrc
import os
import struct
import sys
import uuid
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only

from varshare_pl.callbacks.logged_values import FINAL_RETURN
from varshare_pl.errors import ConfigError, RunError
from varshare_pl.files import replacing, write_text
from varshare_pl.paths import user_path
from varshare_pl.results.info import read_run_info

INSTALL = {"wandb": "wandb", "tensorboard": "varshare-pl[tensorboard]"}
WANDB_PROJECT = "varshare"
WANDB_ID_FILE = "run_id"
LONGEST_TAG = 64  # of W&B
COUNTS = ("env_steps", "episodes", "gradient_steps", "wall_time_s")  # no curves


class Wandb(WandbLogger):
    """Weights & Biases; without a key and without ``WANDB_MODE`` it logs offline and never asks.

    A process that is killed outright (kill -9) may leave out the last rows; ``heartbeat.csv`` has them.
    """

    def __init__(self, folder: Path, env_steps: int) -> None:
        super().__init__(save_dir=folder, project=os.environ.get("WANDB_PROJECT", WANDB_PROJECT))
        self._folder = folder
        self._step = env_steps

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None:
            self._experiment = self._open()
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        # W&B drops steps that go back; values of a callback that counts otherwise join the newest ones.
        self._step = max(self._step, step or 0)
        self.experiment.log({**metrics, "env_steps": self._step}, step=self._step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self._experiment is not None:
            self._experiment.finish(exit_code=int(status != "success"))
            self._experiment = None

    def _open(self) -> Any:
        import wandb

        quiet = wandb.Settings(console="off", silent=True)
        wandb.setup(quiet)  # or the login would still speak
        info = read_run_info(self._folder)
        id_file = self._folder / "wandb" / WANDB_ID_FILE
        known = id_file.read_text(encoding="utf-8").strip() if id_file.exists() else ""
        mode = os.environ.get("WANDB_MODE") or ("offline" if _no_account() else None)
        try:
            run = wandb.init(
                project=self._project,
                dir=str(self._folder),
                id=known or os.environ.get("WANDB_RUN_ID") or uuid.uuid4().hex[:8],
                resume="allow",
                name=f"{info.experiment}/seed_{info.seed}",
                group=info.experiment,
                job_type="train",
                tags=[tag[:LONGEST_TAG] for tag in (info.suite, info.method) if tag],
                mode=mode,  # type: ignore[arg-type]
                settings=quiet,
            )
        except wandb.Error as error:
            raise RunError(f"wandb: {error}; with WANDB_MODE=offline the run is logged without the server") from error
        id_file.parent.mkdir(exist_ok=True)
        write_text(id_file, run.id + "\n")
        for name in COUNTS:
            run.define_metric(name, hidden=True)  # to be an x axis of
        run.define_metric("*", step_metric="env_steps", step_sync=True)
        where = self._folder / "wandb" / "offline-run-*"
        if mode == "offline" and "WANDB_MODE" not in os.environ:
            print(f"wandb: no key found, logging offline; upload it with: wandb sync {where}", file=sys.stderr)
        elif not run.offline and run.url:
            print(f"wandb: {run.url}", file=sys.stderr)
        return run


class TensorBoard(TensorBoardLogger):
    """TensorBoard events in ``tensorboard/``; what an earlier process wrote beyond ``env_steps`` is hidden."""

    def __init__(self, folder: Path, env_steps: int) -> None:
        super().__init__(folder, name="tensorboard", version="", default_hp_metric=False, purge_step=env_steps + 1)
        self._end: Any = None  # of the session, for the table of hyperparameters

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        # One event for all: a tenth of the time of one for each.
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

        values = [Summary.Value(tag=name, simple_value=float(value)) for name, value in metrics.items()]
        self.experiment.file_writer.add_summary(Summary(value=values), step)
        self.experiment.flush()

    @rank_zero_only
    def log_hyperparams(self, params: Any, metrics: Any = None, step: int | None = None) -> None:
        from torch.utils.tensorboard.summary import hparams

        self.hparams.update(params)
        names, start, self._end = hparams(  # type: ignore[no-untyped-call]
            self._sanitize_params(dict(params)), {FINAL_RETURN: 0.0}
        )
        for summary in (names, start):
            self.experiment.file_writer.add_summary(summary)

    def log_end(self, results: Mapping[str, float], env_steps: int) -> None:
        """Log the run's results; the table of hyperparameters shows the final return."""
        self.log_metrics(results, env_steps)
        if self._end is not None:
            self.experiment.file_writer.add_summary(self._end)


class Csv(CSVLogger):
    """All metrics as one table, ``csv/metrics.csv``."""

    def __init__(self, folder: Path, env_steps: int) -> None:
        super().__init__(folder, name="csv", version="", flush_logs_every_n_steps=1)
        self._env_steps = env_steps

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None:
            self._experiment = _CsvTable(self.log_dir, self._env_steps)
        return self._experiment


class _CsvTable(ExperimentWriter):
    """Lightning's writer deletes a table that is there; this one cuts it back to the checkpoint and goes on."""

    def __init__(self, log_dir: str, env_steps: int) -> None:
        self._env_steps = env_steps
        super().__init__(log_dir)

    def _check_log_dir_exists(self) -> None:
        path = Path(self.metrics_file_path)
        if not path.exists():
            return
        text = path.read_text(encoding="utf-8")
        table = csv.DictReader(text[: text.rfind("\n") + 1].splitlines())  # a kill may have left a part of a line
        self.metrics_keys = list(table.fieldnames or [])
        if not self.metrics_keys:
            path.unlink()
            return
        self._replace(self.metrics_keys, [row for row in table if int(row["step"]) <= self._env_steps])

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        with Path(self.metrics_file_path).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        self._replace(fieldnames, rows)

    def _replace(self, columns: list[str], rows: list[dict[str, Any]]) -> None:
        path = Path(self.metrics_file_path)
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=columns)
            writer.writeheader()
            writer.writerows(rows)


LOGGERS: dict[str, type[Wandb] | type[TensorBoard] | type[Csv]] = {
    "wandb": Wandb,
    "tensorboard": TensorBoard,
    "csv": Csv,
}


def logger_names(value: str | Iterable[str] | None) -> list[str]:
    """The names that a value of ``--logger`` holds: one, several with commas, a list of them, or none.

    Raises:
        ConfigError: for a name that no logger has, or a logger that is not installed.
    """
    given = [value or ""] if value is None or isinstance(value, str) else value
    names = list(dict.fromkeys(name for item in given for part in str(item).split(",") if (name := part.strip())))
    for name in names:
        if name not in LOGGERS:
            allowed = f"{', '.join(LOGGERS)}, several with commas, or null is"
            raise ConfigError(f"logger: {name} is not allowed; {allowed}; trainer.logger takes others by class path")
        if name in INSTALL and find_spec(name) is None:
            raise ConfigError(f'logger: {name} is not installed; pip install "{INSTALL[name]}"')
    return names


def log_images(logger: Logger, images: Sequence[Path], env_steps: int) -> None:
    """Send PNG files to a logger that shows images."""
    if isinstance(logger, WandbLogger):
        import wandb

        logger.log_metrics({f"plots/{path.stem}": wandb.Image(str(path)) for path in images}, env_steps)  # type: ignore[misc]
    elif isinstance(logger, TensorBoardLogger):
        from tensorboard.compat.proto.summary_pb2 import Summary

        for path in images:
            png = path.read_bytes()
            width, height = struct.unpack(">II", png[16:24])  # where every PNG has its size
            image = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png)
            summary = Summary(value=[Summary.Value(tag=f"plots/{path.stem}", image=image)])
            logger.experiment.file_writer.add_summary(summary, env_steps)


def log_results(logger: Logger, results: Mapping[str, float], env_steps: int) -> None:
    """Send what a finished run came to: the summary of a run in W&B, the table of hyperparameters in TensorBoard."""
    if isinstance(logger, WandbLogger):
        logger.experiment.summary.update(dict(results))
    elif isinstance(logger, TensorBoard):
        logger.log_end(results, env_steps)


def _no_account() -> bool:
    """Whether W&B would have to ask for a key."""
    import wandb

    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return False
    settings = wandb.setup().settings
    if settings.api_key:
        return False
    server = os.environ.get("WANDB_BASE_URL") or settings.base_url
    # Keys for W&B's own server are stored under its first name, whatever its address is by now.
    hosts = [urlsplit(server).netloc, *(["api.wandb.ai"] if server == wandb.Settings().base_url else [])]
    for name in [os.environ["NETRC"]] if "NETRC" in os.environ else ["~/.netrc", "~/_netrc"]:
        try:
            if any(netrc.netrc(user_path(name)).authenticators(host) for host in hosts):
                return False
        except (OSError, ConfigError, netrc.NetrcParseError):
            continue
    return True
