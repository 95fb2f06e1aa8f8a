"""Deterministic evaluation: posterior mean, most likely action, the same number of episodes for every task and env."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from varshare_pl.envs import TaskSuite, make_vector_env
from varshare_pl.errors import ConfigError
from varshare_pl.random import stream_seed
from varshare_pl.rollout.collector import final_values

Act = Callable[[Tensor, Tensor], Tensor]
"""Actions (rows,) from observations (rows, *obs) and tasks (rows,)."""


@dataclass(frozen=True)
class EvaluationResult:
    """Results of one evaluation of M tasks with E episodes each."""

    returns: NDArray[np.float64]  # (M, E)
    lengths: NDArray[np.int64]  # (M, E)
    info: dict[str, NDArray[np.float64]]  # (M, E) each, scalars of the last info
    solved_return: float | None

    def to_plain(self) -> dict[str, Any]:
        """The results as lists, for a checkpoint."""
        info = {name: values.tolist() for name, values in self.info.items()}
        return {
            "returns": self.returns.tolist(),
            "lengths": self.lengths.tolist(),
            "info": info,
            "solved_return": self.solved_return,
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> EvaluationResult:
        """The results that ``to_plain`` gave."""
        info = {name: np.array(values) for name, values in plain["info"].items()}
        return cls(np.array(plain["returns"]), np.array(plain["lengths"]), info, plain["solved_return"])

    @property
    def task_returns(self) -> NDArray[np.float64]:
        """(M,) mean return of each task."""
        return np.asarray(self.returns.mean(1))

    @property
    def task_solved(self) -> list[bool | None]:
        """Whether each task's mean return reaches the suite's solved_return; None where the suite has none."""
        if self.solved_return is None:
            return [None] * len(self.returns)
        return [bool(value >= self.solved_return) for value in self.task_returns]

    @property
    def solved(self) -> bool | None:
        """Whether every task is solved."""
        return None if self.solved_return is None else all(self.task_solved)


def evaluate(
    act: Act,
    suite: TaskSuite,
    episodes: int,
    seed: int,
    counter: int,
    backend: Literal["auto", "batched", "torch", "sync", "async"] = "auto",
    envs_per_task: int | None = None,
    info_metrics: tuple[str, ...] = (),
) -> EvaluationResult:
    """Run episodes in envs of their own, with random streams of their own.

    Each env plays the same number of episodes, whatever their lengths: counting the first ones to end would favour
    short episodes.

    Args:
        act: The policy.
        suite: Task suite.
        episodes: Episodes per task, E.
        seed: The run's seed.
        counter: Which evaluation of the run, e.g. its env steps; start states hang on it.
        backend: As for training.
        envs_per_task: Envs side by side for each task, a divisor of episodes; None: one per episode.
        info_metrics: Scalars of the last info to keep.
    """
    envs_per_task = envs_per_task or episodes
    if episodes % envs_per_task:
        raise ConfigError(
            f"evaluation.envs_per_task: {envs_per_task} is not allowed; "
            f"a divisor of evaluation.episodes = {episodes} is"
        )
    tasks, quota = suite.num_tasks, episodes // envs_per_task
    envs = make_vector_env(
        suite, tasks * envs_per_task, backend, seed=stream_seed(seed, "evaluation", counter), task_assignment="fixed"
    )
    try:
        columns = _play(act, envs, quota, info_metrics)
    finally:
        envs.close()
    # Env i has task i mod M, so (N, quota) regroups to (M, E).
    shaped = {k: v.reshape(envs_per_task, tasks, quota).swapaxes(0, 1).reshape(tasks, -1) for k, v in columns.items()}
    returns, lengths = shaped.pop("return"), shaped.pop("length")
    return EvaluationResult(returns, lengths.astype(np.int64), shaped, suite.solved_return)


def _play(act: Act, envs: Any, quota: int, info_metrics: tuple[str, ...]) -> dict[str, NDArray[np.float64]]:
    n = envs.num_envs
    results = {name: np.zeros((n, quota)) for name in ("return", "length", *info_metrics)}
    running_return, running_length, played = np.zeros(n), np.zeros(n), np.zeros(n, np.int64)
    obs, info = envs.reset()
    task = torch.as_tensor(np.asarray(info["task"], np.int64))
    while (played < quota).any():
        actions = act(torch.as_tensor(np.asarray(obs, np.float32)), task)
        obs, reward, terminated, truncated, info = envs.step(actions.cpu().numpy())
        running_return += reward
        running_length += 1
        done = terminated | truncated
        last = {name: final_values(info, name, done) for name in info_metrics} if done.any() else {}
        for i, env in enumerate(np.flatnonzero(done)):
            if played[env] < quota:
                results["return"][env, played[env]] = running_return[env]
                results["length"][env, played[env]] = running_length[env]
                for name, values in last.items():
                    results[name][env, played[env]] = values[i]
                played[env] += 1
            running_return[env] = running_length[env] = 0.0
    return results
