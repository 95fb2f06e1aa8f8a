"""Physics as plain functions of a state, so that one copy serves a single env and a batch of envs.

A state is a tuple of S values, task parameters are a tuple of P values. A value is a ``float`` for one env and a
``(N,)`` float64 array or tensor for a batch of N envs. Code that uses only arithmetic, comparisons, ``|``, ``&``,
``abs`` and functions of the namespace ``xp`` (NumPy for floats and arrays, torch for tensors) accepts all three.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, TypeAlias

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
FloatObs: TypeAlias = NDArray[np.float32]
Value: TypeAlias = Any  # a float for one env, a (N,) array or tensor for N envs
Values: TypeAlias = tuple[Value, ...]
ActionSpace: TypeAlias = Discrete | MultiDiscrete | Box


class Dynamics(ABC):
    """The tasks of one suite: a table of parameters and the functions that use them.

    Attributes:
        table: (P, M) float64, the parameters of the M tasks, one column a task.
        observation_space: one Box for all tasks, shape (D,), float32.
        action_space: one for all tasks: Discrete, or a MultiDiscrete or Box of one axis; discrete actions start at 0.
        max_episode_steps: the time limit in steps, None where there is none.
        state_size: S, the number of values in a state.
        can_draw: whether ``draw`` is there.
        fps: frames a second for ``human`` rendering.
        info_names: the numbers that ``info`` tells of each step.
    """

    table: FloatArray
    observation_space: Box
    action_space: ActionSpace
    max_episode_steps: int | None = None
    state_size: int
    can_draw: bool = False
    fps: int = 50
    info_names: tuple[str, ...] = ()

    @property
    def num_tasks(self) -> int:
        return int(self.table.shape[1])

    @abstractmethod
    def initial_states(self, rng: np.random.Generator, count: int) -> FloatArray:
        """Draw the first states of ``count`` episodes, (count, S) float64.

        The draws must not depend on the task, and those for many episodes must be those for one after another.
        """

    def initial_state(self, rng: np.random.Generator) -> FloatArray:
        """Draw the first state of one episode, (S,) float64."""
        first: FloatArray = self.initial_states(rng, 1)[0]
        return first

    @abstractmethod
    def step(self, state: Values, action: Value, params: Values, xp: Any = np) -> tuple[Values, Value, Value]:
        """Advance by one step.

        Args:
            state: S values; never changed in place.
            action: an int, or (N,) int64; for a MultiDiscrete a tuple of A such values; for a Box a tuple of A floats
                or (N,) float64, which may lie outside its bounds.
            params: P values, rows of ``table``.
            xp: the module whose functions fit the values: NumPy or torch.

        Returns:
            The next state (fresh values), the reward, and whether the episode terminated. Reward and termination may
            be scalars in a batch where they are the same for all envs.
        """

    @abstractmethod
    def observe(self, state: Values, xp: Any = np) -> Values:
        """Return the D components of the observation, before rounding to float32; ``xp`` as in ``step``."""

    def info(self, state: Values, params: Values, xp: Any = np) -> Values:
        """The numbers of ``info_names`` for the state that a step came to; ``xp`` as in ``step``."""
        return ()

    def draw(self, canvas: Any, state: Values, params: Values) -> None:
        """Draw one env on a pygame surface. Only where ``can_draw``."""
        raise NotImplementedError


def write_observations(dynamics: Dynamics, state: Values, out: FloatObs) -> None:
    """Write the observations of a batch of N envs to ``out``, (N, D) float32."""
    columns = out.T
    for d, component in enumerate(dynamics.observe(state)):
        columns[d] = component


def row_type(dynamics: Dynamics) -> np.dtype[np.void]:
    """A whole observation as one item: NumPy picks and writes single items much faster than rows of a matrix."""
    return np.dtype((np.void, 4 * int(np.prod(dynamics.observation_space.shape))))


def as_rows(obs: FloatObs, row: np.dtype[np.void]) -> NDArray[np.void]:
    """The memory of observations (…, D) as one axis of items of ``row_type``."""
    return obs.view(row).reshape(-1)
