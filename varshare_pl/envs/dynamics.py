"""Physics as plain functions of a state, so that one copy serves a single env and a batch of envs.

A state is a tuple of S values, task parameters are a tuple of P values. A value is a ``float`` for one env and a
``(N,)`` float64 array for a batch of N envs; code that uses only arithmetic and NumPy functions accepts both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, TypeAlias

import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
Value: TypeAlias = Any  # a float for one env, a (N,) array for N envs
Values: TypeAlias = tuple[Value, ...]


class Dynamics(ABC):
    """The tasks of one suite: a table of parameters and the functions that use them.

    Attributes:
        table: (P, M) float64, the parameters of the M tasks, one column a task.
        observation_space: one Box for all tasks, shape (D,), float32.
        action_space: one Discrete for all tasks, starting at 0.
        max_episode_steps: the time limit in steps, None where there is none.
        state_size: S, the number of values in a state.
        can_draw: whether ``draw`` is there.
        fps: frames a second for ``human`` rendering.
    """

    table: FloatArray
    observation_space: Box
    action_space: Discrete
    max_episode_steps: int | None = None
    state_size: int
    can_draw: bool = False
    fps: int = 50

    @property
    def num_tasks(self) -> int:
        return int(self.table.shape[1])

    @abstractmethod
    def initial_state(self, rng: np.random.Generator) -> FloatArray:
        """Draw the first state of one episode, (S,) float64. The draw must not depend on the task."""

    @abstractmethod
    def step(self, state: Values, action: Value, params: Values) -> tuple[Values, Value, Value]:
        """Advance by one step.

        Args:
            state: S values; never changed in place.
            action: an int, or (N,) int64.
            params: P values, rows of ``table``.

        Returns:
            The next state (fresh values), the reward, and whether the episode terminated. Reward and termination may
            be scalars in a batch where they are the same for all envs.
        """

    @abstractmethod
    def observe(self, state: Values) -> Values:
        """Return the D components of the observation, before rounding to float32."""

    def draw(self, canvas: Any, state: Values, params: Values) -> None:
        """Draw one env on a pygame surface. Only where ``can_draw``."""
        raise NotImplementedError
