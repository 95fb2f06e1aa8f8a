"""Plots of the run, drawn from its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse.typing import NonNegativeInt
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import STEP_OUTPUT

from varshare_pl.callbacks.heartbeat import record_of
from varshare_pl.callbacks.logger_classes import log_images
from varshare_pl.callbacks.loggers import each_logger


class Plots(Callback):
    """Draw the run's plots into ``plots/`` of its folder and send them to the loggers; needs the heartbeat's files.

    A plot that fails costs a warning, never the run.

    Args:
        every: Env steps between two drawings; 0 draws at the end of the fit only.
        enabled: Draw at all.
        pdf: Write each plot as PDF too, under the same name.
    """

    def __init__(self, every: NonNegativeInt = 0, enabled: bool = True, pdf: bool = False) -> None:
        self.every = every
        self.enabled = enabled
        self.kind = "pdf" if pdf else "png"
        self._drawn = 0  # multiples of `every` passed so far

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        record = record_of(outputs)
        if self.every <= 0 or record is None or record.env_steps // self.every <= self._drawn:
            return
        self._drawn = record.env_steps // self.every
        self._draw(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._draw(trainer, pl_module)

    def _draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.enabled or not trainer.is_global_zero:
            return
        try:
            from varshare_pl.results.plots import plot_run  # loads matplotlib, half a second

            images = plot_run(Path(trainer.default_root_dir), *_suite_facts(trainer), kind=self.kind)
        except Exception as error:
            reason = " ".join(str(error).split())
            rank_zero_warn(f"the plots were not drawn: {type(error).__name__}: {reason}")
        else:
            env_steps = int(pl_module.env_steps)  # type: ignore[arg-type]
            each_logger(trainer, lambda logger: log_images(logger, images, env_steps))


def _suite_facts(trainer: Trainer) -> tuple[float | None, list[str] | None]:
    """The suite's solved return and the names of its tasks; None where not known."""
    suite = getattr(getattr(trainer, "datamodule", None), "suite", None)
    if suite is None:
        return None, None
    return suite.solved_return, [str(task.name) for task in suite.tasks]
