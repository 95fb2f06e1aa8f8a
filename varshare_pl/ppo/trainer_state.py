"""What Lightning's own callbacks read of a run: its metrics, its gradient steps, and when it was validated."""

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

    An evaluation counts as a validation, so ``EarlyStopping`` and ``ModelCheckpoint`` look after each one; after each
    rollout if nothing evaluates. A metric keeps its value until a newer one is known. One update of a dictionary for
    each rollout: ``self.log`` would cost a quarter of a millisecond per metric.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module: Any = pl_module
        _count_steps(trainer, module.gradient_steps)
        record: Record | None = module.first_record()
        if record is not None:  # of a rollout before this session, so that no validation follows it
            _tell(trainer, record)
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, EarlyStopping | ModelCheckpoint):
                    callback.on_validation_end(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        module: Any = pl_module
        record: Record = outputs["record"]  # type: ignore[index, call-overload, assignment]
        _count_steps(trainer, module.gradient_steps)
        _tell(trainer, record)
        # The data module has Lightning look after each batch whether there is anything to validate with.
        trainer.limit_val_batches = int(OF_EVALUATION in record.metrics or module.evaluator is None)


def _tell(trainer: Trainer, record: Record) -> None:
    known = {name: torch.tensor(float(value)) for name, value in record.metrics.items() if not math.isnan(value)}
    trainer.callback_metrics.update(known)


def _count_steps(trainer: Trainer, gradient_steps: int) -> None:
    """For ``trainer.global_step``: a resumed fit has fresh loops (see ``PPOModule.on_save_checkpoint``)."""
    steps = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.total
    steps.ready = steps.completed = gradient_steps
