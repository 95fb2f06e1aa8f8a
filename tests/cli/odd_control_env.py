"""A control env with one fault of choice; registered as ``odd_control_env:OddControl-v0``."""

import multiprocessing

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete

ACTIONS = {
    "unbounded": Box(-np.inf, np.inf, (2,), np.float32),
    "half-bounded": Box(np.float32(0), np.float32(np.inf), (2,), np.float32),
    "three": Box(-1.0, 1.0, (3,), np.float32),
    "discrete": Discrete(4),
    "dict": Dict({"arm": Box(-1.0, 1.0, (2,), np.float32), "grip": Discrete(2)}),
}


class OddControl(gymnasium.Env):
    """Constant observations, episodes of five steps; a fault shows at the third step of an episode.

    Args:
        fault: "raise", "nan", "shape", "text" and "reward" are of a step; "make" of the constructor, in a worker.
        actions: A key of ``ACTIONS``; None: two numbers from −1 to 1.
    """

    observation_space = Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, fault="none", actions=None, render_mode=None):
        self.fault, self.render_mode, self.steps = fault, render_mode, 0
        self.action_space = ACTIONS.get(actions, Box(-1.0, 1.0, (2,), np.float32))
        if fault == "make" and multiprocessing.parent_process() is not None:
            raise RuntimeError("no robot here")

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        obs, reward = np.zeros(2, np.float32), 1.0
        if self.steps == 3:
            if self.fault == "raise":
                raise RuntimeError("the motor is off")
            obs = {"nan": np.full(2, np.nan, np.float32), "shape": np.zeros(3), "text": np.array(["a", "b"])}.get(
                self.fault, obs
            )
            reward = float("nan") if self.fault == "reward" else 1.0
        return obs, reward, self.steps == 5, False, {"success": 0.0}


gymnasium.register("OddControl-v0", OddControl)
