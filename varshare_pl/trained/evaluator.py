"""When a run evaluates its policy, what came of it, and what that adds to the records of its rollouts."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from varshare_pl.networks.actor_critic import ActorCritic
from varshare_pl.parallel import rank
from varshare_pl.results.statistics import average
from varshare_pl.trained.evaluation import LONGEST_EPISODE, Act, EvaluationResult, check_envs_per_task, evaluate
from varshare_pl.trained.kept_envs import KeptEnvs
from varshare_pl.types import Detail, Record

Run = Callable[[int, bool], EvaluationResult | None]
"""Evaluates the policy of this moment after so many env steps; True: with every task's deviation set to 0.

The result is the same on all processes, and None where a signal stopped it.
"""


class Evaluator:
    """The evaluations of a run. The module calls it, so that a record is whole before any callback sees it.

    An evaluation that a signal stopped is made up for before the first rollout of the run that goes on, from the same
    weights, and its record is written again.

    Args:
        every: Env steps between evaluations during training; 0: only at the end.
        episodes: Episodes per task.
        envs_per_task: Envs side by side for each task, a divisor of episodes; None: one per episode.
        max_episode_steps: Cut an episode after so many steps; None: never.

    Attributes:
        history: Env steps and result of the evaluations that were due, and of the last rollout.
        final: The same of the weights that training ended with; None until then.
        shared_only: The final weights with every task's deviation set to 0; None where there is none, or until then.

    Raises:
        ConfigError: if envs_per_task does not divide the episodes.
    """

    def __init__(
        self,
        every: int,
        episodes: int,
        envs_per_task: int | None = None,
        max_episode_steps: int | None = LONGEST_EPISODE,
    ) -> None:
        check_envs_per_task(episodes, envs_per_task)
        self.every = int(every)  # the parser's NonNegativeInt would be a class in the checkpoint
        self.episodes = episodes
        self.envs_per_task = envs_per_task
        self.max_episode_steps = max_episode_steps
        self.history: list[tuple[int, EvaluationResult]] = []
        self.final: tuple[int, EvaluationResult] | None = None
        self.shared_only: EvaluationResult | None = None
        self._due = self.every
        self._missed: tuple[Record, bool] | None = None  # a record whose evaluation was stopped, whether it is the last
        self._first: list[Record | None] = []  # what is known before the first rollout, once it was asked for
        self._told_missing = self._has_residuals = False
        self._run: Run
        self._envs = KeptEnvs()

    def play(
        self,
        act: Act,
        data: Any,
        seed: int,
        env_steps: int,
        stopped: Callable[[], bool] = lambda: False,
    ) -> EvaluationResult:
        """Play with envs as training has, as many episodes as this object says; ``close`` closes the envs.

        Args:
            act: The policy.
            data: The run's data module.
            seed: The run's.
            env_steps: Of the weights that act; start states are drawn from a stream of it.
            stopped: See ``trained.evaluation.evaluate``, which also says what is raised.
        """
        return evaluate(
            act,
            data.suite,
            self.episodes,
            seed,
            env_steps,
            data.backend,
            self.envs_per_task,
            data.info_metrics,
            self.max_episode_steps,
            stopped,
            data.num_workers,
            data.worker_timeout,
            self._envs,
        )

    def close(self) -> None:
        """Close the envs that evaluations have kept open."""
        self._envs.close()

    def attach(self, policy: ActorCritic, run: Run) -> None:
        """Take the policy of a fit that begins, and what evaluates it."""
        self._has_residuals = any(layer.shared_and_residual() is not None for *_, layer in policy.layers())
        self._run = run
        self._first = []

    def first_record(self, new_tasks: bool) -> Record | None:
        """The record of an evaluation that comes before the first rollout; who asks first has it made."""
        if not self._first:
            self._first = [None]
            if self._missed is not None:
                record, last = self._missed
                self._first = [record if self._evaluate(record, last) else None]
            elif new_tasks:
                self._first = [self._zero_shot()]
        return self._first[0]

    def after_rollout(self, record: Record, last: bool) -> None:
        """Evaluate after the run's last rollout and where it is due, and add the results to the record."""
        if last or (self.every and record.env_steps >= self._due):
            self._due = (record.env_steps // self.every + 1) * self.every if self.every else 0
            self._evaluate(record, last)

    def finish(self, env_steps: int) -> None:
        """Evaluate the weights that a run was stopped with before its last rollout.

        That is no row of the heartbeat: resumed, the run must write what it would have written without the stop.
        """
        if env_steps and (self.final is None or self.final[0] != env_steps):
            result = self._run(env_steps, False)
            self.final = None if result is None else (env_steps, result)

    def state_dict(self) -> dict[str, Any]:
        """What a run that goes on needs, as plain data."""
        missed = None if self._missed is None else [asdict(self._missed[0]), self._missed[1]]
        history = [[steps, result.to_plain()] for steps, result in self.history]
        return {"due": self._due, "history": history, "missed": missed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state_dict`` was called."""
        self._due = state["due"]
        if state["missed"] is not None:
            plain, last = state["missed"]
            details = [Detail(**detail) for detail in plain["details"]]
            self._missed = Record(plain["env_steps"], plain["metrics"], details), last
        self.history = [(steps, EvaluationResult.from_plain(plain)) for steps, plain in state["history"]]

    def _evaluate(self, record: Record, last: bool) -> bool:
        """Evaluate, and add what was found to the record and to the history; whether it was done, not stopped."""
        self._missed = record, last
        result = self._run(record.env_steps, False)
        if result is None:
            return False
        shared_only = None
        if last and self._has_residuals:
            shared_only = self._run(record.env_steps, True)
            if shared_only is None:
                return False
        self._missed = None
        self.history.append((record.env_steps, result))
        self.final = self.history[-1]
        _note(result, record)
        self._warn_of_missing(result)
        if shared_only is not None:
            self.shared_only = shared_only
            for name, values in shared_only.means.items():
                record.details += [Detail(f"eval/{name}_shared_only", float(v), task=m) for m, v in enumerate(values)]
        return True

    def _warn_of_missing(self, result: EvaluationResult) -> None:
        if any(result.task_missing) and not self._told_missing:
            self._told_missing = True  # once is enough
            if rank() == 0:
                warnings.warn(f"{result.notes[-1]}; eval/success_missing in diagnostics.csv counts them", stacklevel=2)

    def _zero_shot(self) -> Record | None:
        result = self._run(0, False)
        if result is None:
            return None
        self.history.append((0, result))
        record = Record(0, {}, [])
        _note(result, record)
        return record


def _note(result: EvaluationResult, record: Record) -> None:
    """Add a result to a record."""
    for name, values in result.means.items():
        record.metrics |= {f"eval/{name}_task_{task}": float(value) for task, value in enumerate(values)}
        record.metrics[f"eval/{name}_mean"] = float(average(values))
    for task in range(len(result.returns)):
        record.details.append(Detail("eval/length", float(average(result.lengths[task])), task=task))
        for name, values in result.info.items():
            record.details.append(Detail(f"eval/{name}", float(average(values[task])), task=task))
        if result.cut is not None:
            record.details.append(Detail("eval/cut", float(result.task_cuts[task]), task=task))
        if result.task_missing[task]:
            record.details.append(Detail("eval/success_missing", float(result.task_missing[task]), task=task))
