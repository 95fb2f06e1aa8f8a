"""Evaluation during training, at its end and by ``varshare validate``."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

import torch
from jsonargparse.typing import NonNegativeInt, PositiveInt
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT

from varshare_pl.callbacks.heartbeat import record_of
from varshare_pl.callbacks.signals import Signals, stopped_by_signal
from varshare_pl.parallel import raised_by_all
from varshare_pl.ppo.module import PPOModule
from varshare_pl.ppo.trainer_state import OF_EVALUATION
from varshare_pl.results.statistics import average
from varshare_pl.trained.evaluation import LONGEST_EPISODE, EvaluationResult, StoppedError
from varshare_pl.trained.evaluator import Evaluator


class Evaluation(Callback):
    """Evaluate at the posterior mean with the most likely actions, in envs and random streams of its own.

    The module's evaluator does it within the training step. A signal stops an evaluation as it stops a run: the
    rollout's row is then written without it; a resumed run first makes up for it, and writes the row again.

    Args:
        every: Env steps between evaluations during training; 0: only at the end.
        episodes: Episodes per task.
        envs_per_task: Envs side by side for each task, a divisor of episodes; null: one per episode.
        max_episode_steps: Cut an episode after so many steps, with its return up to there; null: never.
        stop_when_solved: End the run after this many evaluations in a row in which every task is solved; null: never.
    """

    def __init__(
        self,
        every: NonNegativeInt = 30_000,
        episodes: PositiveInt = 20,
        envs_per_task: PositiveInt | None = None,
        max_episode_steps: PositiveInt | None = LONGEST_EPISODE,
        stop_when_solved: PositiveInt | None = None,
    ) -> None:
        self.evaluator = Evaluator(every, episodes, envs_per_task, max_episode_steps)
        self.stop_when_solved = stop_when_solved

    def state_dict(self) -> dict[str, Any]:
        return self.evaluator.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.evaluator.load_state_dict(state_dict)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        module = _module(pl_module)
        self.evaluator.attach(module.policy, partial(self._run, trainer, module))
        module.evaluator = self.evaluator

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        record = _module(pl_module).first_record()
        if record is None:
            return
        if record.env_steps:  # of a run that was stopped in its evaluation
            self._stop_if_solved(trainer)
        elif trainer.is_global_zero:
            print("zero-shot, before any training with the new tasks:")
            _print(self.evaluator.history[-1][1], trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        record = record_of(outputs)
        if record is not None and OF_EVALUATION in record.metrics:
            solved = bool(self.evaluator.history[-1][1].solved)
            trainer.callback_metrics["eval/solved"] = torch.tensor(float(solved))
            self._stop_if_solved(trainer)

    def _stop_if_solved(self, trainer: Trainer) -> None:
        if self.stop_when_solved is not None:
            latest = [result.solved for _, result in self.evaluator.history[-self.stop_when_solved :]]
            if len(latest) == self.stop_when_solved and all(latest):
                trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not stopped_by_signal(trainer):
            self.evaluator.finish(_module(pl_module).env_steps)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.evaluator.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.evaluator.close()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        result = self._run(trainer, _module(pl_module), _module(pl_module).env_steps)
        if result is None:
            return
        for name, values in result.means.items():
            pl_module.log(f"eval/{name}_mean", float(average(values)), logger=False)
            for task, value in enumerate(values):
                pl_module.log(f"eval/{name}_task_{task}", float(value), logger=False)
        if trainer.is_global_zero:
            _print(result, trainer)

    def _run(
        self, trainer: Trainer, module: PPOModule, env_steps: int, shared_only: bool = False
    ) -> EvaluationResult | None:
        """The result, the same on all processes; None where a signal stopped it."""
        # The first process evaluates for all, so that all agree on what follows from it: the best checkpoint, a stop.
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        signals = Signals.of(trainer)
        result: EvaluationResult | None = None
        # Within a training step the precision is that of training.
        as_it_is = torch.autocast(trainer.strategy.root_device.type, enabled=False)
        with raised_by_all(), suppress(StoppedError), as_it_is:
            if trainer.is_global_zero:
                result = self.evaluator.play(
                    module.policy.deterministic(shared_only),
                    data,
                    module.seed,
                    env_steps,
                    lambda: signals is not None and signals.received is not None,
                )
        result = trainer.strategy.broadcast(result)
        if result is None and signals is not None:
            signals.agree(trainer)
        return result


def _print(result: EvaluationResult, trainer: Trainer) -> None:
    names = [task.name for task in trainer.datamodule.suite.tasks]  # type: ignore[attr-defined]
    print(result.table(names))


def _module(pl_module: LightningModule) -> PPOModule:
    assert isinstance(pl_module, PPOModule)
    return pl_module
