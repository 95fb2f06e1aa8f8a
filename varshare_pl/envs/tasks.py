"""Tasks and suites of tasks as data."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from varshare_pl.envs.physics.dynamics import Dynamics
from varshare_pl.envs.success import SuccessMeasure
from varshare_pl.errors import ConfigError
from varshare_pl.types import EnvSpec


def _told(value: Any) -> str:
    """A value in words that equal values share, in every process: in a fixed order and without addresses."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(sorted(f'{key!r}: {_told(item)}' for key, item in value.items()))}}}"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(_told, value)))}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_told, value))}]"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


@dataclass
class GymTask:
    """One task of a custom suite, as a user writes it.

    Attributes:
        id: a Gymnasium id, or ``module:id`` for one that importing ``module`` registers.
        kwargs: arguments of ``gymnasium.make``.
        attributes: set on the unwrapped env after it was made; each must exist there already.
        name: a name for people; derived from the rest if None.
    """

    id: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    name: str | None = None


@dataclass(frozen=True)
class TaskSpec:
    """One task: how to make its env."""

    name: str  # for people
    env_id: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)

    def make(self, render_mode: str | None = None) -> gym.Env[Any, Any]:
        """Make the env with Gymnasium's wrappers, in its own spaces.

        Raises:
            ConfigError: if an attribute does not exist or cannot be set.
        """
        # Not every env knows the argument, so it is left out where it says nothing.
        rendering = {} if render_mode is None else {"render_mode": render_mode}
        env: gym.Env[Any, Any] = gym.make(self.env_id, **{**self.kwargs, **rendering})
        for key, value in self.attributes.items():
            if not hasattr(env.unwrapped, key):
                env.close()
                raise ConfigError(f"attributes.{key}: {self.env_id} has no attribute of that name")
            try:
                setattr(env.unwrapped, key, value)
            except AttributeError as error:
                env.close()
                raise ConfigError(f"attributes.{key}: {self.env_id} does not let it be set ({error})") from error
        return _with_own_observations(env)


class OwnObservations(gym.ObservationWrapper[Any, Any, Any]):
    """Copies the observations of an env, which may be one array that it changes in place.

    A wrapper that keeps some, as a stack of frames does, would see its old ones change.
    """

    def observation(self, observation: Any) -> Any:
        return observation.copy() if isinstance(observation, np.ndarray) else copy.deepcopy(observation)


def _with_own_observations(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    """Put ``OwnObservations`` around the env inside all wrappers."""
    innermost = env
    while isinstance(innermost, gym.Wrapper) and isinstance(innermost.env, gym.Wrapper):
        innermost = innermost.env
    if not isinstance(innermost, gym.Wrapper):
        return OwnObservations(env)
    innermost.env = OwnObservations(innermost.env)
    return env


class CommonBox(gym.ObservationWrapper[Any, Any, Any]):
    """Declares the Box of the whole suite, so that a vector env accepts all tasks side by side."""

    def __init__(self, env: gym.Env[Any, Any], space: Box) -> None:
        super().__init__(env)
        self.observation_space = space

    def observation(self, observation: Any) -> NDArray[Any]:
        return np.asarray(observation, dtype=self.observation_space.dtype)


@dataclass(frozen=True)
class TaskSuite:
    """M tasks with the same spaces.

    Attributes:
        name: of the suite; letters that are safe in a file name.
        tasks: the M tasks, counted from 0.
        observation_space: the one Box of all tasks, float32, or float64 where a task observes in it.
        action_space: the one Discrete of all tasks.
        success: what counts as success in its tasks.
        version: changes when results stop being comparable.
        dynamics: the physics for the batched vector env; None for a custom suite.
    """

    name: str
    tasks: tuple[TaskSpec, ...]
    observation_space: Box
    action_space: Discrete
    success: SuccessMeasure = field(default_factory=SuccessMeasure)
    version: int = 0
    dynamics: Dynamics | None = None

    @property
    def num_tasks(self) -> int:
        return len(self.tasks)

    @property
    def solved_return(self) -> float | None:
        """The mean return from which on a task counts as solved; None where that is not known, or not what counts."""
        return self.success.solved if self.success.info is None else None

    def env_spec(self) -> EnvSpec:
        """What networks need to know."""
        shape = tuple(self.observation_space.shape)
        dtype = str(self.observation_space.dtype)
        names, told = self.identities(), self.success.info is not None
        return EnvSpec(self.name, self.num_tasks, shape, self.action_space, dtype, names, told)

    def identities(self) -> tuple[str, ...]:
        """A line for each task, the same for equal tasks: its name, and its physics or how its env is made."""
        if self.dynamics is not None:
            kind, columns = type(self.dynamics).__name__, self.dynamics.table.T.tolist()
            return tuple(f"{task.name}: {kind} {column}" for task, column in zip(self.tasks, columns, strict=True))
        return tuple(f"{task.name}: {task.env_id} {_told(task.kwargs)} {_told(task.attributes)}" for task in self.tasks)

    def make_task(self, k: int, render_mode: str | None = None) -> gym.Env[Any, Any]:
        """Make the Gymnasium env of task ``k``.

        Raises:
            ConfigError: if there is no task ``k``.
        """
        if not 0 <= k < self.num_tasks:
            raise ConfigError(f"task={k!r}: {self.name} has the tasks 0 to {self.num_tasks - 1}")
        env = self.tasks[k].make(render_mode)
        own = env.observation_space
        same = own == self.observation_space and own.dtype == self.observation_space.dtype
        return env if same else CommonBox(env, self.observation_space)
