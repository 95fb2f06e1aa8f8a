"""Evaluation during training, at its end and by ``varshare validate``."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from typing import Any

from jsonargparse.typing import NonNegativeInt, PositiveInt
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT

from varshare_pl.callbacks.heartbeat import record_of
from varshare_pl.callbacks.signals import Signals, stopped_by_signal
from varshare_pl.errors import ConfigError
from varshare_pl.parallel import raised_by_all
from varshare_pl.ppo.module import PPOModule
from varshare_pl.results.statistics import average
from varshare_pl.results.table import evaluation_table
from varshare_pl.trained.evaluation import LONGEST_EPISODE, EvaluationResult, StoppedError, evaluate
from varshare_pl.types import Detail, Record


class Evaluation(Callback):
    """Evaluate at the posterior mean with the most likely actions, in envs and random streams of its own.

    A signal stops an evaluation as it stops a run. The rollout's row is then written without it; a resumed run first
    makes up for it, from the same weights, and writes the row again.

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
        if envs_per_task is not None and episodes % envs_per_task:
            raise ConfigError(
                f"evaluation.envs_per_task: {envs_per_task} is not allowed; "
                f"a divisor of evaluation.episodes = {episodes} is"
            )
        self.every = int(every)  # the parser's NonNegativeInt would be a class in the checkpoint
        self.episodes = episodes
        self.envs_per_task = envs_per_task
        self.max_episode_steps = max_episode_steps
        self.stop_when_solved = stop_when_solved
        # (env steps, result) of the evaluations that were due, and of the last rollout.
        self.history: list[tuple[int, EvaluationResult]] = []
        self.final: tuple[int, EvaluationResult] | None = None  # of the weights that training ended with
        self.shared_only: EvaluationResult | None = None  # of the final weights with every task's deviation set to 0
        self._due = self.every
        self._missed: tuple[Record, bool] | None = None  # a record whose evaluation was stopped, whether it is the last

    def state_dict(self) -> dict[str, Any]:
        missed = None if self._missed is None else [asdict(self._missed[0]), self._missed[1]]
        history = [[steps, result.to_plain()] for steps, result in self.history]
        return {"due": self._due, "history": history, "missed": missed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._due = state_dict["due"]
        if state_dict["missed"] is not None:
            plain, last = state_dict["missed"]
            details = [Detail(**detail) for detail in plain["details"]]
            self._missed = Record(plain["env_steps"], plain["metrics"], details), last
        self.history = [(steps, EvaluationResult.from_plain(plain)) for steps, plain in state_dict["history"]]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module = _module(pl_module)
        if self._missed is not None:
            record, last = self._missed
            if self._evaluate(trainer, pl_module, record, last):
                module.first_record = record
            return
        if module.warm_start is None or not module.warm_start.new_tasks or module.env_steps:
            return
        result = self._run(trainer, pl_module, 0)
        if result is None:
            return
        self.history.append((0, result))
        module.first_record = Record(0, {}, [])
        _note(result, module.first_record)
        if trainer.is_global_zero:
            print("zero-shot, before any training with the new tasks:")
            _print(result, trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        record = record_of(outputs)
        assert record is not None
        last = batch.index + 1 == _module(pl_module).plan.count
        if not last and (not self.every or record.env_steps < self._due):
            return
        self._due = (record.env_steps // self.every + 1) * self.every if self.every else 0
        if self._evaluate(trainer, pl_module, record, last):
            pl_module.log("eval/return_mean", record.metrics["eval/return_mean"], logger=False)
            pl_module.log("eval/solved", float(bool(self.history[-1][1].solved)), logger=False)

    def _evaluate(self, trainer: Trainer, pl_module: LightningModule, record: Record, last: bool) -> bool:
        """Evaluate, and add what was found to the record and to the history; whether it was done, not stopped."""
        self._missed = record, last
        result = self._run(trainer, pl_module, record.env_steps)
        if result is None:
            return False
        shared_only = None
        if last and any(layer.shared_and_residual() is not None for *_, layer in _module(pl_module).policy.layers()):
            shared_only = self._run(trainer, pl_module, record.env_steps, shared_only=True)
            if shared_only is None:
                return False
        self._missed = None
        self.history.append((record.env_steps, result))
        self.final = self.history[-1]
        _note(result, record)
        if shared_only is not None:
            self.shared_only = shared_only
            for task, value in enumerate(self.shared_only.task_returns):
                record.details.append(Detail("eval/return_shared_only", float(value), task=task))
        if self.stop_when_solved is not None:
            latest = [past.solved for _, past in self.history[-self.stop_when_solved :]]
            if len(latest) == self.stop_when_solved and all(latest):
                trainer.should_stop = True
        return True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # A run that was stopped early has final weights too. Their evaluation is no row of the heartbeat: resumed, the
        # run must write what it would have written without the stop.
        env_steps = _module(pl_module).env_steps
        if env_steps and (self.final is None or self.final[0] != env_steps) and not stopped_by_signal(trainer):
            result = self._run(trainer, pl_module, env_steps)
            self.final = None if result is None else (env_steps, result)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        result = self._run(trainer, pl_module, _module(pl_module).env_steps)
        if result is None:
            return
        self.history.append((_module(pl_module).env_steps, result))
        pl_module.log("eval/return_mean", float(average(result.task_returns)), logger=False)
        for task, value in enumerate(result.task_returns):
            pl_module.log(f"eval/return_task_{task}", float(value), logger=False)
        if trainer.is_global_zero:
            _print(result, trainer)

    def _run(
        self, trainer: Trainer, pl_module: LightningModule, env_steps: int, shared_only: bool = False
    ) -> EvaluationResult | None:
        """The result, the same on all processes; None where a signal stopped it."""
        # The first process evaluates for all, so that all agree on what follows from it: the best checkpoint, a stop.
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        signals = Signals.of(trainer)
        result: EvaluationResult | None = None
        with raised_by_all(), suppress(StoppedError):
            if trainer.is_global_zero:
                result = evaluate(
                    _module(pl_module).policy.deterministic(shared_only),
                    data.suite,
                    self.episodes,
                    _module(pl_module).seed,
                    env_steps,
                    data.backend,
                    self.envs_per_task,
                    data.info_metrics,
                    self.max_episode_steps,
                    lambda: signals is not None and signals.received is not None,
                    data.num_workers,
                    data.worker_timeout,
                )
        result = trainer.strategy.broadcast(result)
        if result is None and signals is not None:
            signals.agree(trainer)
        return result


def _note(result: EvaluationResult, record: Record) -> None:
    """Add a result to a record."""
    for task, value in enumerate(result.task_returns):
        record.metrics[f"eval/return_task_{task}"] = float(value)
        record.details.append(Detail("eval/length", float(average(result.lengths[task])), task=task))
        for name, values in result.info.items():
            record.details.append(Detail(f"eval/{name}", float(average(values[task])), task=task))
        if result.cut is not None:
            record.details.append(Detail("eval/cut", float(result.task_cuts[task]), task=task))
    record.metrics["eval/return_mean"] = float(average(result.task_returns))


def _print(result: EvaluationResult, trainer: Trainer) -> None:
    names = [task.name for task in trainer.datamodule.suite.tasks]  # type: ignore[attr-defined]
    print(evaluation_table(result.returns, result.task_solved, names, result.solved_return, result.notes))


def _module(pl_module: LightningModule) -> PPOModule:
    assert isinstance(pl_module, PPOModule)
    return pl_module
