"""ConflictBandit: the smallest problem that a network without task information cannot solve."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from varshare_pl.envs.physics.dynamics import Dynamics, FloatArray, Value, Values


class ConflictBandit(Dynamics):
    """One step; the observation is always [1]; in task m action m earns 1 and any other 0.

    One policy for all M tasks earns 1/M on average at best, whatever it does; a policy for each task earns 1.

    Args:
        num_tasks: M, which is also the number of actions.
    """

    state_size = 0

    def __init__(self, num_tasks: int = 5) -> None:
        self.table = np.arange(num_tasks, dtype=np.float64)[None]
        self.action_space = Discrete(num_tasks)
        self.observation_space = Box(0.0, 1.0, (1,), dtype=np.float32)

    def initial_states(self, rng: np.random.Generator, count: int) -> FloatArray:
        return np.empty((count, 0))

    def step(self, state: Values, action: Value, params: Values, xp: Any = np) -> tuple[Values, Value, Value]:
        (right_action,) = params
        return state, 1.0 * (action == right_action), True

    def observe(self, state: Values, xp: Any = np) -> Values:
        return (1.0,)
