"""An env that fails at its fortieth step where a file ``fails`` is in the current folder."""

from pathlib import Path

import gymnasium
import numpy as np


class Faulty(gymnasium.Env):
    """Constant observations, episodes of ten steps."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, render_mode=None):
        self.steps, self.render_mode = 0, render_mode

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.steps == 40 and Path("fails").exists():
            raise RuntimeError("the simulator is gone")
        return np.zeros(2, np.float32), 1.0, self.steps % 10 == 0, False, {}

    def get_state(self):
        return {"steps": self.steps}

    def set_state(self, state):
        self.steps = state["steps"]


gymnasium.register("FaultyForStudies-v0", Faulty)
