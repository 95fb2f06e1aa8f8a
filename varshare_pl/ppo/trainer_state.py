"""What Lightning's own callbacks read of a run: its metrics, its gradient steps, and when it was evaluated."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities.types import STEP_OUTPUT

from varshare_pl.types import Record

OF_EVALUATION = "eval/return_mean"  # every evaluation has it


class TrainerState(Callback):
    """Keep the trainer's ``callback_metrics`` and ``global_step`` up to date; ``PPOModule`` brings it along.

    ``EarlyStopping`` and ``ModelCheckpoint`` look after each evaluation, as after a validation; after each rollout if
    nothing evaluates. A metric keeps its value until a newer one is known. One update of a dictionary for each
    rollout: ``self.log`` would cost a quarter of a millisecond per metric.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module: Any = pl_module
        _count_steps(trainer, module.gradient_steps)
        record: Record | None = module.first_record()
        if record is not None:
            _tell(trainer, record)
            _have_looked_at(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        module: Any = pl_module
        record: Record = outputs["record"]  # type: ignore[index, assignment]
        _count_steps(trainer, module.gradient_steps)
        _tell(trainer, record)
        if OF_EVALUATION in record.metrics or module.evaluator is None:
            _have_looked_at(trainer, pl_module)


def _tell(trainer: Trainer, record: Record) -> None:
    known = {name: float(value) for name, value in record.metrics.items() if not math.isnan(value)}
    values = torch.tensor(list(known.values())).unbind()  # one tensor: a quarter of the time of one for each
    trainer.callback_metrics.update(zip(known, values, strict=True))


def _have_looked_at(trainer: Trainer, pl_module: LightningModule) -> None:
    """Have Lightning's monitors look at the metrics.

    Not by its loop for validation: that comes after a rollout's checkpoint, which would lack what they counted.
    """
    trainer.fit_loop.epoch_loop.val_loop._has_run = True  # or ModelCheckpoint would only warn of a wrong name
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, EarlyStopping | ModelCheckpoint):
            callback.on_validation_end(trainer, pl_module)


def _count_steps(trainer: Trainer, gradient_steps: int) -> None:
    """For ``trainer.global_step``: a resumed fit has fresh loops (see ``PPOModule.on_save_checkpoint``)."""
    steps = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.total
    steps.ready = steps.completed = gradient_steps
