"""Tasks and suites of tasks as data."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from varshare_pl.envs.actions import CommonActions
from varshare_pl.envs.foreign_state.replay import replayed
from varshare_pl.envs.observations import fitted
from varshare_pl.envs.physics.dynamics import ActionSpace, Dynamics
from varshare_pl.envs.success import SuccessMeasure
from varshare_pl.envs.wrapping import WrapperSpec
from varshare_pl.errors import ConfigError
from varshare_pl.types import Anchors, EnvSpec


def told(value: Any) -> str:
    """A value in words that equal values share, in every process: in a fixed order and without addresses."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(sorted(f'{key!r}: {told(item)}' for key, item in value.items()))}}}"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(told, value)))}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(told, value))}]"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


@dataclass
class GymTask:
    """One task of a custom suite, as a user writes it.

    Attributes:
        id: a Gymnasium id, or ``module:id`` for one that importing ``module`` registers.
        kwargs: arguments of ``gymnasium.make``.
        attributes: set on the unwrapped env after it was made; each must exist there already.
        name: a name for people; derived from the rest if None.
        wrappers: around the env, the innermost first: import paths of subclasses of ``gymnasium.Wrapper``, or a dict
            of one such path to the wrapper's arguments.
        time_limit: steps after which an episode is truncated, in place of the limit that the id has.
    """

    id: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    name: str | None = None
    wrappers: list[str | dict[str, Any]] = field(default_factory=list)
    time_limit: int | None = None


@dataclass(frozen=True)
class TaskSpec:
    """One task: how to make its env."""

    name: str  # for people
    env_id: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    wrappers: tuple[WrapperSpec, ...] = ()  # the innermost first
    time_limit: int | None = None  # steps; None: that of the id

    def make(self, render_mode: str | None = None) -> gym.Env[Any, Any]:
        """Make the env with Gymnasium's wrappers, in its own spaces.

        Raises:
            ConfigError: if an attribute does not exist or cannot be set, or a wrapper raises.
        """
        # Not every env knows the argument, so it is left out where it says nothing.
        rendering = {} if render_mode is None else {"render_mode": render_mode}
        limit = {} if self.time_limit is None else {"max_episode_steps": self.time_limit}
        env: gym.Env[Any, Any] = gym.make(self.env_id, **{**self.kwargs, **rendering, **limit})
        for key, value in self.attributes.items():
            if not hasattr(env.unwrapped, key):
                env.close()
                raise ConfigError(f"attributes.{key}: {self.env_id} has no attribute of that name")
            try:
                setattr(env.unwrapped, key, value)
            except AttributeError as error:
                env.close()
                raise ConfigError(f"attributes.{key}: {self.env_id} does not let it be set ({error})") from error
        env = _with_own_observations(env)
        for wrapper in self.wrappers:
            env = wrapper.put_around(env)
        return env

    def identity(self) -> str:
        """What the task is, in words that are the same for equal tasks."""
        limit = "" if self.time_limit is None else f" time_limit {self.time_limit}"
        around = f" wrappers {told([[w.path, w.kwargs] for w in self.wrappers])}" if self.wrappers else ""
        return f"{self.name}: {self.env_id} {told(self.kwargs)} {told(self.attributes)}{limit}{around}"


class OwnObservations(gym.ObservationWrapper[Any, Any, Any]):
    """Copies the observations of an env, which may be one array that it changes in place.

    A wrapper that keeps some, as a stack of frames does, would see its old ones change.
    """

    def observation(self, observation: Any) -> Any:
        return observation.copy() if isinstance(observation, np.ndarray) else copy.deepcopy(observation)


def _with_own_observations(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    """Put ``OwnObservations``, and ``Replayed`` where it is needed, around the env inside all wrappers."""
    innermost = env
    while isinstance(innermost, gym.Wrapper) and isinstance(innermost.env, gym.Wrapper):
        innermost = innermost.env
    if not isinstance(innermost, gym.Wrapper):
        return OwnObservations(replayed(env))
    innermost.env = OwnObservations(replayed(innermost.env))
    return env


class CommonBox(gym.ObservationWrapper[Any, Any, Any]):
    """Observes in the Box of the whole suite, so that a vector env accepts all tasks side by side."""

    def __init__(self, env: gym.Env[Any, Any], space: Box) -> None:
        super().__init__(env)
        self.observation_space = space

    def observation(self, observation: Any) -> NDArray[Any]:
        assert isinstance(self.observation_space, Box)
        return fitted(observation, self.env.observation_space, self.observation_space)


@dataclass(frozen=True)
class TaskSuite:
    """M tasks with the same spaces.

    Attributes:
        name: of the suite; letters that are safe in a file name.
        tasks: the M tasks, counted from 0.
        observation_space: the one Box of all tasks, of float32, float64 or uint8.
        action_space: the one of all tasks: Discrete, MultiDiscrete, or a Box of floats.
        success: what counts as success in its tasks.
        anchors: the returns that count as 0 and as 1 in scores; None: a table of the report's may have them.
        action_counts: how many Discrete actions each task has; empty where each has all of the action space.
        version: changes when results stop being comparable.
        dynamics: the physics for the batched vector env; None for a custom suite.
        protocol: in words, what its numbers are of; empty where the name says it all.
    """

    name: str
    tasks: tuple[TaskSpec, ...]
    observation_space: Box
    action_space: ActionSpace
    success: SuccessMeasure = field(default_factory=SuccessMeasure)
    anchors: Anchors | None = None
    action_counts: tuple[int, ...] = ()
    version: int = 0
    dynamics: Dynamics | None = None
    protocol: str = ""

    @property
    def num_tasks(self) -> int:
        return len(self.tasks)

    @property
    def solved_return(self) -> float | None:
        """The mean return from which on a task counts as solved; None where that is not known, or not what counts."""
        return self.success.solved if self.success.info is None else None

    def env_spec(self) -> EnvSpec:
        """What networks need to know."""
        space = self.observation_space
        dtype = str(space.dtype)
        return EnvSpec(
            self.name,
            self.num_tasks,
            tuple(space.shape),
            self.action_space,
            dtype,
            self.identities(),
            obs_scale=1.0 / float(space.high.max() or 1) if dtype == "uint8" else 1.0,
            action_counts=self.action_counts,
            success=self.success.info is not None,
        )

    def identities(self) -> tuple[str, ...]:
        """A line for each task, the same for equal tasks: its name, and its physics or how its env is made."""
        if self.dynamics is not None:
            kind, columns = type(self.dynamics).__name__, self.dynamics.table.T.tolist()
            return tuple(f"{task.name}: {kind} {column}" for task, column in zip(self.tasks, columns, strict=True))
        return tuple(task.identity() for task in self.tasks)

    def make_task(self, k: int, render_mode: str | None = None) -> gym.Env[Any, Any]:
        """Make the Gymnasium env of task ``k``.

        Raises:
            ConfigError: if there is no task ``k``.
        """
        if not 0 <= k < self.num_tasks:
            raise ConfigError(f"task={k!r}: {self.name} has the tasks 0 to {self.num_tasks - 1}")
        env = self.tasks[k].make(render_mode)
        if env.action_space != self.action_space:
            env = CommonActions(env, self.action_space)
        own = env.observation_space
        same = own == self.observation_space and own.dtype == self.observation_space.dtype
        return env if same else CommonBox(env, self.observation_space)
