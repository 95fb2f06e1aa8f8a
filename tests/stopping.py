"""A run that is stopped, to be resumed. Apart from ``helpers``, which do without Lightning until they need it."""

import os
import signal
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from varshare_pl.types import Rollout


class StopAfter(Callback):
    """Save a checkpoint after a rollout and stop."""

    def __init__(self, rollouts: int, path: Path) -> None:
        self.rollouts, self.path = rollouts, path

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Rollout, batch_idx: int) -> None:
        if batch.index + 1 == self.rollouts:
            trainer.save_checkpoint(self.path)
            trainer.should_stop = True


class Interrupt(Callback):
    """Press Ctrl-C after so many rollouts."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Rollout, batch_idx: int) -> None:
        if batch.index + 1 == self.after:
            os.kill(os.getpid(), signal.SIGINT)
