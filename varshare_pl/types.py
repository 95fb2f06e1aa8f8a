"""The records that travel through the system: rollouts, minibatches, episode statistics, rows of the heartbeat.

Shapes use T steps of a rollout, N envs, M tasks, G task groups in a minibatch, R rows in a group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import Space
from numpy.typing import NDArray

if TYPE_CHECKING:  # envs read this file, and do without torch
    from torch import Tensor


@dataclass(frozen=True)
class Anchors:
    """The returns of each task that count as 0 and as 1: score = (return − low) / (high − low)."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def scores(self, returns: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores of returns whose last axis is the tasks."""
        low, high = np.array(self.low), np.array(self.high)
        return np.asarray((returns - low) / (high - low))


@dataclass(frozen=True)
class EnvSpec:
    """What a network needs to know of a task suite."""

    suite: str  # the suite's name
    num_tasks: int  # M; tasks count from 0
    obs_shape: tuple[int, ...]
    action_space: Space[Any]
    obs_dtype: str = "float32"  # or float64 or uint8, as the envs observe
    tasks: tuple[str, ...] = ()  # what each task is, by which it is known again in another suite; empty: not told
    obs_scale: float = 1.0  # what observations are multiplied by: 1 / the largest value of uint8, else 1
    action_counts: tuple[int, ...] = ()  # Discrete actions of each task, where these differ; else empty
    success: bool = False  # whether success is a number of the env's info, and not the return

    @property
    def obs_size(self) -> int:
        """Length of a flattened observation."""
        return math.prod(self.obs_shape)


@dataclass(frozen=True)
class RolloutPlan:
    """The rollouts of a run."""

    rows: int  # of one rollout, T · N over all processes
    count: int  # how many there are
    tasks_fixed: bool = True  # whether every env keeps its task


@dataclass
class Episodes:
    """Episodes that ended, one row each, in the order in which they ended."""

    task: Tensor  # (E,) int64, the task of the episode that ended
    returns: Tensor  # (E,) float64, undiscounted sum of raw rewards
    lengths: Tensor  # (E,) int64, env steps
    info: dict[str, Tensor] = field(default_factory=dict)  # (E,) float64 each, numbers of the env's last info
    success: Tensor | None = None  # (E,) float64, NaN where the env told none; None where the measure is the return


@dataclass
class Rollout:
    """T steps of N envs, acted by one fixed set of weights; what one batch of the dataset is."""

    index: int  # counts rollouts from 0; the weights that acted are those after update index - 1
    env_steps: int  # env steps taken by the run when this rollout ended
    obs: Tensor  # (T, N, *obs) float32, or float64 where the policy reads that; what it saw
    task: Tensor  # (T, N) int64, the task of obs
    actions: Tensor  # (T, N, *action)
    dist_params: Tensor  # (T, N, P) parameters of the distribution that each action was drawn from
    noise: Tensor  # (T, N, K) what actions were drawn with, and under "stored" noise the actor's outputs
    rewards: Tensor  # (T, N) float32
    terminated: Tensor  # (T, N) bool, the episode ended in a state whose value is 0
    truncated: Tensor  # (T, N) bool, the episode was cut; its value goes on
    final_obs: Tensor  # (T, N, *obs) like obs, last observation of an episode that ended at this step, else 0
    last_obs: Tensor  # (N, *obs) like obs, the observation after the last step
    last_task: Tensor  # (N,) int64
    episodes: Episodes
    seconds: float  # wall time of the collection


@dataclass
class Minibatch:
    """Rows grouped by task and padded: a padding row repeats some row of the group and weighs 0."""

    group_task: Tensor  # (G,) int64, the task of each group, ascending
    obs: Tensor  # (G, R, *obs)
    actions: Tensor  # (G, R, *action)
    log_prob: Tensor  # (G, R), of the actions when they were taken
    values: Tensor  # (G, R), of the critic before the update
    advantages: Tensor  # (G, R), normalised
    returns: Tensor  # (G, R), targets of the critic
    weight: Tensor  # (G, R), sums to about 1; each task present has the same share
    noise: Tensor | None = None  # (G, R, Z), of the actor's layers one behind the other, where it is stored


@dataclass(frozen=True)
class Detail:
    """One value of a metric that is per layer, network or task: a row of ``diagnostics.csv``."""

    metric: str
    value: float
    network: str = ""  # "actor", "critic" or "" where it has no network
    layer: str = ""  # "layer_1", "layer_2", …, "head" or ""
    task: int | None = None  # counted from 0; None where it has no task


@dataclass
class Record:
    """What is known after one rollout and its update: a row of ``heartbeat.csv`` and its details.

    ``training_step`` makes it, with an evaluation where one is due; callbacks only read it.
    """

    env_steps: int
    metrics: dict[str, float]  # names of heartbeat.csv's columns; a metric without a value is absent
    details: list[Detail]
