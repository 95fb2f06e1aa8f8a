"""An env that notes how it was made; registered as ``noting_env:Noting-v0``."""

from typing import Any, ClassVar

import gymnasium
import numpy as np


class Noting(gymnasium.Env):
    """Constant observations, episodes of five steps."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 10}
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    made: ClassVar[list["Noting"]] = []

    def __init__(self, render_mode=None, **kwargs):
        self.render_mode, self.kwargs, self.attribute, self.steps = render_mode, kwargs, "unset", 0
        self.made.append(self)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(2, np.float32), 1.0, self.steps == 5, False, {}

    def render(self):
        return np.zeros((8, 8, 3), np.uint8)

    def get_state(self):
        return {"steps": self.steps}

    def set_state(self, state):
        self.steps = state["steps"]


gymnasium.register("Noting-v0", Noting)
