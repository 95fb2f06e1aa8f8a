"""Deterministic evaluation: posterior mean, most likely action, the same number of episodes for every task and env."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from varshare_pl.envs import TaskSuite, make_vector_env
from varshare_pl.envs.episodes import RunningEpisodes
from varshare_pl.envs.success import EpisodeSuccess, SuccessMeasure
from varshare_pl.errors import ConfigError, EnvError
from varshare_pl.random import stream_seed
from varshare_pl.results.table import evaluation_table
from varshare_pl.trained.kept_envs import KeptEnvs

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
    threshold: float | None  # a task is solved where its mean success, or else return, is at least this
    cut: NDArray[np.bool_] | None = None  # (M, E) where the evaluation's limit of steps ended an episode; None: nowhere
    # (M, E) the suite's success measure, NaN in an episode whose info never told it; None where it is the return
    success: NDArray[np.float64] | None = None

    def to_plain(self) -> dict[str, Any]:
        """The results as lists, for a checkpoint."""
        info = {name: values.tolist() for name, values in self.info.items()}
        return {
            "returns": self.returns.tolist(),
            "lengths": self.lengths.tolist(),
            "info": info,
            "threshold": self.threshold,
            "cut": None if self.cut is None else self.cut.tolist(),
            "success": None if self.success is None else self.success.tolist(),
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> EvaluationResult:
        """The results that ``to_plain`` gave."""
        info = {name: np.array(values) for name, values in plain["info"].items()}
        cut = None if plain["cut"] is None else np.array(plain["cut"])
        told = plain.get("success")  # not there in a checkpoint of before
        success = None if told is None else np.array(told)
        threshold = plain["threshold"] if "threshold" in plain else plain["solved_return"]
        return cls(np.array(plain["returns"]), np.array(plain["lengths"]), info, threshold, cut, success)

    @property
    def task_returns(self) -> NDArray[np.float64]:
        """(M,) mean return of each task."""
        return np.asarray(self.returns.mean(1))

    @property
    def task_success(self) -> NDArray[np.float64] | None:
        """(M,) mean success of each task, over the episodes that have it; None where the measure is the return."""
        return None if self.success is None else np.asarray(np.nanmean(self.success, 1))

    @property
    def means(self) -> dict[str, NDArray[np.float64]]:
        """The mean "return" of each task, (M,), and where it is measured, "success"."""
        success = self.task_success
        return {"return": self.task_returns} | ({} if success is None else {"success": success})

    @property
    def task_measured(self) -> NDArray[np.float64]:
        """(M,) mean of each task's success, where that is measured, or else of its return."""
        return list(self.means.values())[-1]

    @property
    def task_missing(self) -> list[int]:
        """How many episodes of each task have no success."""
        return [0] * len(self.returns) if self.success is None else [int(n) for n in np.isnan(self.success).sum(1)]

    @property
    def task_cuts(self) -> list[int]:
        """How many episodes of each task the limit of steps ended."""
        return [0] * len(self.returns) if self.cut is None else [int(count) for count in self.cut.sum(1)]

    @property
    def notes(self) -> list[str]:
        """What else is to be said of the results, a line each."""
        notes = []
        if self.cut is not None:
            notes.append(
                f"cut: {sum(self.task_cuts)} of {self.cut.size} episodes, at evaluation.max_episode_steps = "
                f"{self.lengths[self.cut].max()}; they count with their return up to there"
            )
        if missing := sum(self.task_missing):
            notes.append(f"success missing: in {missing} of {self.returns.size} episodes, left out of its mean")
        return notes

    def table(self, names: Sequence[str]) -> str:
        """The results for people, a line for each task; names: of the tasks."""
        return evaluation_table(self.returns, self.task_solved, names, self.threshold, self.notes, self.success)

    @property
    def task_solved(self) -> list[bool | None]:
        """Whether the mean of each task's measure reaches the threshold; None where the suite has none."""
        if self.threshold is None:
            return [None] * len(self.returns)
        return [bool(value >= self.threshold) for value in self.task_measured]

    @property
    def solved(self) -> bool | None:
        """Whether every task is solved."""
        return None if self.threshold is None else all(self.task_solved)


def check_envs_per_task(episodes: int, envs_per_task: int | None) -> None:
    """See that the envs of a task can play the same number of episodes each.

    Raises:
        ConfigError: if not.
    """
    if envs_per_task is not None and episodes % envs_per_task:
        raise ConfigError(
            f"evaluation.envs_per_task: {envs_per_task} is not allowed; "
            f"a divisor of evaluation.episodes = {episodes} is"
        )


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
    kept: KeptEnvs | None = None,
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
        kept: Holds the envs for further evaluations of the same suite; None: they are closed in the end.

    Raises:
        StoppedError: if it was stopped.
        EnvError: if the info of every episode of a task lacks what the suite measures success by.
    """
    check_envs_per_task(episodes, envs_per_task)
    envs_per_task = envs_per_task or episodes
    tasks, quota = suite.num_tasks, episodes // envs_per_task
    make = partial(
        make_vector_env,
        suite,
        tasks * envs_per_task,
        backend,
        task_assignment="fixed",
        num_workers=num_workers,
        worker_timeout=worker_timeout,
    )
    with ExitStack() as stack:
        kept = stack.enter_context(closing(KeptEnvs())) if kept is None else kept
        begun = kept.begun(lambda seed: make(seed=seed), stream_seed(seed, "evaluation", counter))
        envs, obs, info = stack.enter_context(begun)
        columns, running = _play(act, envs, obs, info, quota, suite.success, info_metrics, max_episode_steps, stopped)
    # Env i has task i mod M, so (N, quota) regroups to (M, E).
    shaped = {k: v.reshape(envs_per_task, tasks, quota).swapaxes(0, 1).reshape(tasks, -1) for k, v in columns.items()}
    returns, lengths, cut = shaped.pop("return"), shaped.pop("length").astype(np.int64), shaped.pop("cut") > 0
    success = None
    if running.success is not None:
        success = shaped.pop("success")
        _check_told(suite, success, running.success)
    return EvaluationResult(returns, lengths, shaped, suite.success.solved, cut if cut.any() else None, success)


def _check_told(suite: TaskSuite, success: NDArray[np.float64], told: EpisodeSuccess) -> None:
    for name, values in zip((task.name for task in suite.tasks), success, strict=True):
        if np.isnan(values).all():
            has = ", ".join(told.instead or ()) or "nothing"
            raise EnvError(
                f"success.info: {told.key!r} is in no info of the {len(values)} episodes of task {name!r} in an "
                f"evaluation; the last info has: {has}"
            )


def _play(
    act: Act,
    envs: Any,
    obs: Any,
    info: Mapping[str, Any],
    quota: int,
    success: SuccessMeasure,
    info_metrics: tuple[str, ...],
    max_episode_steps: int | None,
    stopped: Callable[[], bool],
) -> tuple[dict[str, NDArray[np.float64]], RunningEpisodes]:
    """What each env's first ``quota`` episodes came to, (N, quota) each."""
    n = envs.num_envs
    task = torch.as_tensor(np.asarray(info["task"], np.int64))

    def where(i: int) -> str:
        return f"env {i} (task {int(task[i])}) at step {int(running.lengths[i])} of its episode in an evaluation"

    running, played = RunningEpisodes(n, where, success, info_metrics), np.zeros(n, np.int64)
    results = {name: np.full((n, quota), np.nan) for name in ("cut", *running.columns)}
    while (played < quota).any():
        if stopped():
            raise StoppedError
        actions = act(torch.as_tensor(obs), task)
        obs, reward, terminated, truncated, info = envs.step(actions.cpu().numpy())
        done = terminated | truncated
        running.step(reward, info, done)
        cut = ~done & (played < quota) & (running.lengths >= (max_episode_steps or np.inf))
        ended = done | cut
        if not ended.any():
            continue
        columns = {"cut": cut[ended], **running.end(done, info, cut)}
        if cut.any():
            obs, _ = envs.reset(options={"reset_mask": cut})
        wanted = played[ended] < quota
        rows = np.flatnonzero(ended)[wanted]
        for name, values in columns.items():
            results[name][rows, played[rows]] = values[wanted]
        played[rows] += 1
    return results, running
