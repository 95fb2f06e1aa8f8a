"""Ctrl-C and SIGTERM end a run between two rollouts, so that what is saved is whole."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT

from varshare_pl.parallel import any_process, rank

CAUGHT = (signal.SIGINT, signal.SIGTERM)


class Signals(Callback):
    """Turn SIGINT and SIGTERM into a stop after the rollout under way; a second one stops at once.

    Attributes:
        received: The signal that asked this process, or another one of the run, for the stop.
        agreed: Whether all processes know, and stop.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.agreed = False
        self._before: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Not earlier: Lightning installs handlers of its own just before, and they would end a run with exit code 0.
        self._before = {number: signal.signal(number, self._receive) for number in CAUGHT}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        if any_process(self.received is not None):
            self.received = self.received or signal.SIGTERM  # another process's
            self.agreed = True
            trainer.should_stop = True

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
        if rank() == 0:
            print(f"\n{self.received.name}: stopping after this rollout; once more stops at once", file=sys.stderr)


def stopped_by_signal(trainer: Trainer) -> bool:
    """Whether a signal stopped the trainer; the same on all processes."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return any(isinstance(callback, Signals) and callback.agreed for callback in callbacks)
