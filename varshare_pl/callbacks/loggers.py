"""Records to the trainer's loggers (TensorBoard, W&B, CSV), with env steps on the x axis."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import STEP_OUTPUT

from varshare_pl.callbacks.heartbeat import first_record_of, record_of
from varshare_pl.callbacks.logger_classes import FINAL_RETURN, LOGGERS, flat, log_results
from varshare_pl.callbacks.signals import stopped_by_signal
from varshare_pl.results.info import read_json
from varshare_pl.run_folder import CONFIG_FILE, SUMMARY_FILE
from varshare_pl.types import Detail, Record
from varshare_pl.yaml_files import read_yaml

OF_PAIRS = re.compile(r"(sharing|gradients)/cosine_with_\d+")  # metrics of pairs of tasks


class MetricsToLoggers(Callback):
    """Open the run's loggers, and send them its config, each rollout's record and its results.

    One call per rollout and logger. ``self.log`` would cost a quarter of a millisecond per metric and put gradient
    steps on the x axis. A logger that fails costs a warning and is left out from then on, never the run.

    Args:
        names: Loggers of ``varshare_pl.callbacks.logger_classes`` to open in the run's folder.
        details: Send the values per network, layer and task as well.

    Attributes:
        deferred: Further loggers, opened together with those. Lightning would open its own ones before the run's
            folder is locked and emptied.
    """

    def __init__(self, names: Sequence[str] = (), details: bool = True) -> None:
        self.names = names
        self.details = details
        self.deferred: list[Logger] = []
        self._opened = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder, env_steps = Path(trainer.default_root_dir), _env_steps(pl_module)
        if not self._opened:
            own = [LOGGERS[name](folder, env_steps) for name in self.names]
            trainer.loggers = [*trainer.loggers, *self.deferred, *own]
        self._opened = True
        if not trainer.is_global_zero:
            return
        config = folder / CONFIG_FILE
        params = flat(read_yaml(config)) if config.exists() else {}
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
        metrics = metrics_to_log(record, self.details)
        each_logger(trainer, lambda logger: logger.log_metrics(dict(metrics), step=record.env_steps))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        summary = Path(trainer.default_root_dir) / SUMMARY_FILE
        if not trainer.is_global_zero or stopped_by_signal(trainer) or not summary.exists():
            return
        results = results_to_log(read_json(summary))
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


def metrics_to_log(record: Record, details: bool = True) -> dict[str, float]:
    """All values of a record by name, but those of pairs of tasks: too many for a panel each, they are in heat maps."""
    values = dict(record.metrics)
    if details:
        told = (detail for detail in record.details if not OF_PAIRS.fullmatch(detail.metric))
        values.update((detail_name(detail), detail.value) for detail in told)
    return {name: float(value) for name, value in values.items() if not math.isnan(value)}


def detail_name(detail: Detail) -> str:
    """A name such as ``sharing/ratio/actor/layer_1/task_0``."""
    task = "" if detail.task is None else f"task_{detail.task}"
    return "/".join(part for part in (detail.metric, detail.network, detail.layer, task) if part)


def results_to_log(summary: dict[str, Any]) -> dict[str, float]:
    """The numbers of ``summary.json`` that runs are compared by."""
    final = summary.get("final", {})
    values = {
        FINAL_RETURN: final.get("return_mean"),
        "final/success_mean": final.get("success_mean"),
        "final/solved": final.get("solved"),
        **{
            f"final/{name}_task_{m}": value
            for name in ("return", "success")
            for m, value in enumerate(final.get(f"{name}_per_task", ()))
        },
        "final/steps_to_solve": summary.get("steps_to_solve"),
        "final/seconds": summary.get("seconds"),
    }
    return {name: float(value) for name, value in values.items() if value is not None}


def _env_steps(pl_module: LightningModule) -> int:
    return int(pl_module.env_steps)  # type: ignore[arg-type]
