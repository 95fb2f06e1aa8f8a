"""Ctrl-C and SIGTERM end a run between two rollouts or within an evaluation, so that what is saved is whole."""

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
    """Turn SIGINT and SIGTERM into a stop after the rollout or in the evaluation under way; a second one stops at once.

    It must stand before the callback that evaluates, whose evaluations at the start and the end it is to stop, too.

    Attributes:
        received: The signal that asked this process, or another one of the run, for the stop.
        agreed: Whether all processes know, and stop.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.agreed = False
        self._before: dict[signal.Signals, Any] = {}
        self._after = ""  # what a stop waits for

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._before = {number: signal.getsignal(number) for number in CAUGHT}  # before Lightning's, which go earlier

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Not earlier: Lightning installs handlers of its own just before, and they would end a run with exit code 0.
        self._catch(" after this rollout")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._catch("")

    def _catch(self, after: str) -> None:
        self._after = after
        for number in CAUGHT:
            signal.signal(number, self._receive)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        self.agree(trainer)

    def agree(self, trainer: Trainer) -> None:
        """Stop if any process was asked to; all of them call this together."""
        if any_process(self.received is not None):
            self.received = self.received or signal.SIGTERM  # another process's
            self.agreed = True
            trainer.should_stop = True

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, "fit")  # Lightning calls no teardown after a fault

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
        if rank() == 0:
            print(f"\n{self.received.name}: stopping{self._after}; once more stops at once", file=sys.stderr)

    @staticmethod
    def of(trainer: Trainer) -> Signals | None:
        """The trainer's, if it has them."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        return next((callback for callback in callbacks if isinstance(callback, Signals)), None)


def stopped_by_signal(trainer: Trainer) -> bool:
    """Whether a signal stopped the trainer; the same on all processes."""
    signals = Signals.of(trainer)
    return signals is not None and signals.agreed
