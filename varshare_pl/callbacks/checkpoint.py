"""Checkpoints by rollouts: the newest, and the one of the best evaluation."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from jsonargparse.typing import NonNegativeInt
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint as LightningCheckpoint
from lightning.pytorch.utilities.types import STEP_OUTPUT

from varshare_pl.callbacks.heartbeat import first_record_of, record_of
from varshare_pl.errors import EnvError, writing
from varshare_pl.files import fsync
from varshare_pl.results.files import DIAGNOSTICS, HEARTBEAT
from varshare_pl.run_folder import CHECKPOINTS
from varshare_pl.types import Record

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"


class Checkpoint(LightningCheckpoint):
    """Write ``checkpoints/last.ckpt`` every so many rollouts, at each best evaluation and at the end.

    The best evaluation has the highest mean over tasks, of success where a suite measures it, or else of the return.

    It is always the newest. The one before stays as ``previous.ckpt``, in case it is damaged, and that of the best
    evaluation as ``best.ckpt``.

    Lightning's ModelCheckpoint counts optimizer steps and stops saving for good once an early stop of the epochs breaks
    the multiple; this one counts rollouts.

    Args:
        every: Rollouts between checkpoints; 0: only at best evaluations and at the end.
    """

    def __init__(self, every: NonNegativeInt = 10) -> None:
        self.every = every
        self._best: float | None = None
        self._saved_at: Any = None  # env steps of last.ckpt

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._best = state_dict["best"]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        record = record_of(outputs)
        best = self._is_best(record)
        if best or (self.every and (batch.index + 1) % self.every == 0):
            self._save_last(trainer, pl_module)
        if best:
            self._name_best(trainer)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:  # what a kill left
            for name in (LAST, PREVIOUS, BEST):
                _temporary(Path(trainer.default_root_dir) / CHECKPOINTS, name).unlink(missing_ok=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # The evaluation of the checkpoint that the run goes on from, if a signal had stopped it.
        if pl_module.env_steps and self._is_best(first_record_of(pl_module)):
            self._save_last(trainer, pl_module)
            self._name_best(trainer)

    def _is_best(self, record: Record | None) -> bool:
        means = {} if record is None else record.metrics
        value = means.get("eval/success_mean", means.get("eval/return_mean"))  # success, where it is measured
        best = value is not None and (self._best is None or value > self._best)
        if best:
            self._best = value
        return best

    def _name_best(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            _name_also(Path(trainer.default_root_dir) / CHECKPOINTS, BEST)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        # The weights are whole when an env fails, and the collector tells its state before the rollout. After any other
        # fault they may not be: the last checkpoint stays.
        if isinstance(exception, EnvError) and trainer.world_size == 1 and pl_module.env_steps:
            save(trainer, LAST)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Not twice: previous.ckpt would be the same. And not before the first rollout: the run starts again.
        if pl_module.env_steps and self._saved_at != pl_module.env_steps:
            self._save_last(trainer, pl_module)

    def _save_last(self, trainer: Trainer, pl_module: LightningModule) -> None:
        save(trainer, LAST)
        self._saved_at = pl_module.env_steps


def save(trainer: Trainer, name: str) -> None:
    """Write a checkpoint whole or not at all: to a temporary file first, on disk for sure, then renamed."""
    folder = Path(trainer.default_root_dir) / CHECKPOINTS
    temporary = _temporary(folder, name)
    with writing(folder / name):
        trainer.save_checkpoint(temporary, weights_only=False)  # all of the state; it loads with weights_only=True
        if not trainer.is_global_zero:
            return
        for path in (temporary, folder.parent / HEARTBEAT, folder.parent / DIAGNOSTICS):
            if path.exists():  # a run goes on with the rows up to its checkpoint: they must not be lost when it is not
                fsync(path)
        if name == LAST and (folder / LAST).exists():
            _name_also(folder, PREVIOUS)
        temporary.replace(folder / name)
        fsync(folder)


def _temporary(folder: Path, name: str) -> Path:
    """Where a checkpoint is until it is whole."""
    return folder / f".{name}.tmp"


def _name_also(folder: Path, name: str) -> None:
    """Give last.ckpt a second name, under which it stays when last.ckpt is replaced."""
    link = _temporary(folder, name)
    link.unlink(missing_ok=True)
    try:
        link.hardlink_to(folder / LAST)
    except OSError:  # a file system without hard links
        shutil.copyfile(folder / LAST, link)
    link.replace(folder / name)
    link.unlink(missing_ok=True)  # it is still there if both were names of one file already
    fsync(folder)
