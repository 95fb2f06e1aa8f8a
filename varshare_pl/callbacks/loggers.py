"""Records to the trainer's loggers (TensorBoard, W&B, CSV), with env steps on the x axis."""

from __future__ import annotations

import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT

from varshare_pl.callbacks.heartbeat import record_of
from varshare_pl.types import Detail, Record


class MetricsToLoggers(Callback):
    """Send each rollout's record to every logger of the trainer.

    One call per rollout and logger. ``self.log`` would cost a quarter of a millisecond per metric and put gradient
    steps on the x axis.

    Args:
        details: Send the values per network, layer and task as well.
    """

    def __init__(self, details: bool = True) -> None:
        self.details = details

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        record = record_of(outputs)
        if record is None or not trainer.loggers:
            return
        metrics = metrics_to_log(record, self.details)
        for logger in trainer.loggers:
            logger.log_metrics(dict(metrics), step=record.env_steps)


def metrics_to_log(record: Record, details: bool = True) -> dict[str, float]:
    """All values of a record by name."""
    values = dict(record.metrics)
    if details:
        values.update((detail_name(detail), detail.value) for detail in record.details)
    return {name: float(value) for name, value in values.items() if not math.isnan(value)}


def detail_name(detail: Detail) -> str:
    """A name such as ``sharing/ratio/actor/layer_1/task_0``."""
    task = "" if detail.task is None else f"task_{detail.task}"
    return "/".join(part for part in (detail.metric, detail.network, detail.layer, task) if part)
