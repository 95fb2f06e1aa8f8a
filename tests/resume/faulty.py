"""An env that fails in one of several ways in a step of its choice; registered as ``faulty:Faulty-v0``."""

import os
import signal

import gymnasium
import numpy as np


class Faulty(gymnasium.Env):
    """Constant observations, episodes of ten steps; fails at step ``at`` of its life."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, fault="none", at=40, render_mode=None):
        self.fault, self.at, self.steps = fault, at, 0
        self.render_mode = render_mode

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        obs = np.zeros(2, np.float32)
        if self.steps == self.at and self.fault != "none":
            if self.fault == "raise":
                raise RuntimeError("the simulator is gone")
            if self.fault == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            obs = np.full(2, np.nan, np.float32) if self.fault == "nan" else np.zeros(3, np.float32)
        return obs, 1.0, self.steps % 10 == 0, False, {}

    def get_state(self):
        return {"steps": self.steps}

    def set_state(self, state):
        self.steps = state["steps"]


gymnasium.register("Faulty-v0", Faulty)
