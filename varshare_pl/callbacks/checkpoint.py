"""Checkpoints by rollouts: the newest, and the one of the best evaluation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from jsonargparse.typing import NonNegativeInt
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint as LightningCheckpoint
from lightning.pytorch.utilities.types import STEP_OUTPUT

from varshare_pl.callbacks.heartbeat import record_of
from varshare_pl.run_folder import CHECKPOINTS

LAST, BEST = "last.ckpt", "best.ckpt"


class Checkpoint(LightningCheckpoint):
    """Write ``checkpoints/last.ckpt`` every so many rollouts and at the end, ``best.ckpt`` at each best evaluation.

    Lightning's ModelCheckpoint counts optimizer steps and stops saving for good once an early stop of the epochs breaks
    the multiple; this one counts rollouts.

    Args:
        every: Rollouts between checkpoints; 0: only at the end.
    """

    def __init__(self, every: NonNegativeInt = 20) -> None:
        self.every = every
        self._best: float | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        record = record_of(outputs)
        value = None if record is None else record.metrics.get("eval/return_mean")
        if value is not None and (self._best is None or value > self._best):
            self._best = value
            save(trainer, BEST)
        if self.every and (batch.index + 1) % self.every == 0:
            save(trainer, LAST)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        save(trainer, LAST)


def save(trainer: Trainer, name: str) -> None:
    """Write a checkpoint whole or not at all: to a temporary file first, then renamed."""
    folder = Path(trainer.default_root_dir) / CHECKPOINTS
    temporary = folder / f".{name}.tmp"
    trainer.save_checkpoint(temporary)
    if trainer.is_global_zero:
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(folder / name)
