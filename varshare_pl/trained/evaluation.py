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
from varshare_pl.envs.values import final_numbers
from varshare_pl.errors import ConfigError
from varshare_pl.random import stream_seed

Act = Callable[[Tensor, Tensor], Tensor]
"""Actions (rows,) from observations (rows, *obs) and tasks (rows,)."""

LONGEST_EPISODE = 10_000
"""Steps after which an evaluation cuts an episode, unless told otherwise: a policy may never end one."""


class StoppedError(Exception):
    """An evaluation was stopped before its end."""


@dataclass(frozen=True)
class EvaluationResult:
    """Results of one evaluation of M tasks with E episodes each."""

    returns: NDArray[np.float64]  # (M, E)
    lengths: NDArray[np.int64]  # (M, E)
    info: dict[str, NDArray[np.float64]]  # (M, E) each, numbers of the last info; NaN where an episode was cut
    solved_return: float | None
    cut: NDArray[np.bool_] | None = None  # (M, E) where the evaluation's limit of steps ended an episode; None: nowhere

    def to_plain(self) -> dict[str, Any]:
        """The results as lists, for a checkpoint."""
        info = {name: values.tolist() for name, values in self.info.items()}
        return {
            "returns": self.returns.tolist(),
            "lengths": self.lengths.tolist(),
            "info": info,
            "solved_return": self.solved_return,
            "cut": None if self.cut is None else self.cut.tolist(),
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> EvaluationResult:
        """The results that ``to_plain`` gave."""
        info = {name: np.array(values) for name, values in plain["info"].items()}
        cut = None if plain["cut"] is None else np.array(plain["cut"])
        return cls(np.array(plain["returns"]), np.array(plain["lengths"]), info, plain["solved_return"], cut)

    @property
    def task_returns(self) -> NDArray[np.float64]:
        """(M,) mean return of each task."""
        return np.asarray(self.returns.mean(1))

    @property
    def task_cuts(self) -> list[int]:
        """How many episodes of each task the limit of steps ended."""
        return [0] * len(self.returns) if self.cut is None else [int(count) for count in self.cut.sum(1)]

    @property
    def notes(self) -> list[str]:
        """What else is to be said of the results, a line each."""
        if self.cut is None:
            return []
        return [
            f"cut: {sum(self.task_cuts)} of {self.cut.size} episodes, at evaluation.max_episode_steps = "
            f"{self.lengths[self.cut].max()}; they count with their return up to there"
        ]

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
    backend: Literal["auto", "batched", "torch", "sync", "workers"] = "auto",
    envs_per_task: int | None = None,
    info_metrics: tuple[str, ...] = (),
    max_episode_steps: int | None = LONGEST_EPISODE,
    stopped: Callable[[], bool] = lambda: False,
    num_workers: int | None = None,
    worker_timeout: float | None = None,
) -> EvaluationResult:
    """Run episodes in envs of their own, with random streams of their own.

    Each env plays the same number of episodes, whatever their lengths: counting the first ones to end would favour
    short episodes.

    Args:
        act: The policy.
        suite: Task suite.
        episodes: Episodes per task, E.
        seed: The run's seed.
        counter: Which evaluation of the run, e.g. its env steps; start states are drawn from a stream of it.
        backend: As for training.
        envs_per_task: Envs side by side for each task, a divisor of episodes; None: one per episode.
        info_metrics: Numbers of the last info to keep.
        max_episode_steps: An episode that is as long is cut, and counts as it stands; None: it goes on.
        stopped: Asked at every step whether to stop.
        num_workers: As for training.
        worker_timeout: As for training.

    Raises:
        StoppedError: if it was stopped.
    """
    envs_per_task = envs_per_task or episodes
    if episodes % envs_per_task:
        raise ConfigError(
            f"evaluation.envs_per_task: {envs_per_task} is not allowed; "
            f"a divisor of evaluation.episodes = {episodes} is"
        )
    tasks, quota = suite.num_tasks, episodes // envs_per_task
    envs = make_vector_env(
        suite,
        tasks * envs_per_task,
        backend,
        seed=stream_seed(seed, "evaluation", counter),
        task_assignment="fixed",
        num_workers=num_workers,
        worker_timeout=worker_timeout,
    )
    try:
        columns = _play(act, envs, quota, info_metrics, max_episode_steps, stopped)
    finally:
        envs.close()
    # Env i has task i mod M, so (N, quota) regroups to (M, E).
    shaped = {k: v.reshape(envs_per_task, tasks, quota).swapaxes(0, 1).reshape(tasks, -1) for k, v in columns.items()}
    returns, lengths, cut = shaped.pop("return"), shaped.pop("length"), shaped.pop("cut") > 0
    return EvaluationResult(returns, lengths.astype(np.int64), shaped, suite.solved_return, cut if cut.any() else None)


def _play(
    act: Act,
    envs: Any,
    quota: int,
    info_metrics: tuple[str, ...],
    max_episode_steps: int | None,
    stopped: Callable[[], bool],
) -> dict[str, NDArray[np.float64]]:
    n = envs.num_envs
    results = {name: np.full((n, quota), np.nan) for name in ("return", "length", "cut", *info_metrics)}
    running_return, running_length, played = np.zeros(n), np.zeros(n), np.zeros(n, np.int64)
    obs, info = envs.reset()
    task = torch.as_tensor(np.asarray(info["task"], np.int64))

    def where(i: int) -> str:
        return f"env {i} (task {int(task[i])}) at step {int(running_length[i])} of its episode in an evaluation"

    while (played < quota).any():
        if stopped():
            raise StoppedError
        actions = act(torch.as_tensor(obs), task)
        obs, reward, terminated, truncated, info = envs.step(actions.cpu().numpy())
        running_return += reward
        running_length += 1
        done = terminated | truncated
        cut = ~done & (played < quota) & (running_length >= (max_episode_steps or np.inf))
        if not (done | cut).any():
            continue
        last = {name: final_numbers(info, name, done, where) for name in info_metrics} if done.any() else {}
        if cut.any():
            obs, _ = envs.reset(options={"reset_mask": cut})
        counts = np.flatnonzero((done | cut) & (played < quota))
        for name, values in (("return", running_return), ("length", running_length), ("cut", cut)):
            results[name][counts, played[counts]] = values[counts]
        for name, values in last.items():
            told = np.full(n, np.nan)
            told[done] = values
            results[name][counts, played[counts]] = told[counts]
        played[counts] += 1
        running_return[done | cut] = running_length[done | cut] = 0.0
    return results
