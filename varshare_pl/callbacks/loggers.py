"""Records to the trainer's loggers (TensorBoard, W&B, CSV), with env steps on the x axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import STEP_OUTPUT

from varshare_pl.callbacks.heartbeat import first_record_of, record_of
from varshare_pl.callbacks.logged_values import Level, config_to_log, metrics_to_log, results_to_log
from varshare_pl.callbacks.logger_classes import LOGGERS, log_results
from varshare_pl.callbacks.signals import stopped_by_signal
from varshare_pl.results.info import read_json, read_run_info
from varshare_pl.run_folder import CONFIG_FILE, SUMMARY_FILE
from varshare_pl.types import Record
from varshare_pl.yaml_files import read_yaml


class MetricsToLoggers(Callback):
    """Open the run's loggers, and send them its config, each rollout's record and its results.

    One call per rollout and logger. ``self.log`` would cost a quarter of a millisecond per metric and put gradient
    steps on the x axis. A logger that fails costs a warning and is left out from then on, never the run.

    Args:
        names: Loggers of ``varshare_pl.callbacks.logger_classes`` to open in the run's folder.
        level: How much of each record to send; see ``logged_values.metrics_to_log``.

    Attributes:
        deferred: Further loggers, opened together with those. Lightning would open its own ones before the run's
            folder is locked and emptied.
    """

    def __init__(self, names: Sequence[str] = (), level: Level = "tasks") -> None:
        self.names = names
        self.level = level
        self.deferred: list[Logger] = []
        self._tasks: list[str] = []
        self._opened = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder, env_steps = Path(trainer.default_root_dir), _env_steps(pl_module)
        if not self._opened:
            own = [LOGGERS[name](folder, env_steps) for name in self.names]
            trainer.loggers = [*trainer.loggers, *self.deferred, *own]
        self._opened = True
        if not trainer.is_global_zero:
            return
        info, config = read_run_info(folder), folder / CONFIG_FILE
        self._tasks = info.names_for(int(pl_module.num_tasks))  # type: ignore[arg-type]
        params = config_to_log(read_yaml(config), info) if config.exists() else {}
        for logger in trainer.loggers:
            if hasattr(logger, "experiment"):
                _ = logger.experiment  # opens it
            if params:
                logger.log_hyperparams(dict(params))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        self._log(trainer, record_of(outputs))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(trainer, first_record_of(pl_module))

    def _log(self, trainer: Trainer, record: Record | None) -> None:
        if record is None or not trainer.loggers or not trainer.is_global_zero:
            return
        metrics = metrics_to_log(record, self._tasks, self.level)
        each_logger(trainer, lambda logger: logger.log_metrics(dict(metrics), step=record.env_steps))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        summary = Path(trainer.default_root_dir) / SUMMARY_FILE
        if not trainer.is_global_zero or stopped_by_signal(trainer) or not summary.exists():
            return
        results = results_to_log(read_json(summary), self._tasks)
        each_logger(trainer, lambda logger: log_results(logger, results, _env_steps(pl_module)))


def each_logger(trainer: Trainer, action: Callable[[Logger], None]) -> None:
    """Do something with every logger; one that fails is left out from then on, with a warning."""
    for logger in list(trainer.loggers):
        try:
            action(logger)
        except Exception as error:
            reason = " ".join(str(error).split())
            rank_zero_warn(f"{type(logger).__name__} is left out from here: {type(error).__name__}: {reason}")
            trainer.loggers = [other for other in trainer.loggers if other is not logger]


def _env_steps(pl_module: LightningModule) -> int:
    return int(pl_module.env_steps)  # type: ignore[arg-type]
