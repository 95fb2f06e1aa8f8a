"""An env that shows a picture: left or right is lit, and to choose that side is right; ``picture_env:Picture-v0``."""

from typing import Any, ClassVar

import gymnasium
import numpy as np


class Picture(gymnasium.Env):
    """(6, 8, 2) uint8; the reward is 1 for the side that is lit, or for the other one where ``mirrored``."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 10}
    observation_space = gymnasium.spaces.Box(0, 255, (6, 8, 2), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, mirrored=False, render_mode=None):
        self.mirrored, self.render_mode, self.lit = mirrored, render_mode, 0

    def _picture(self):
        self.lit = int(self.np_random.integers(2))
        picture = self.np_random.integers(0, 60, (6, 8, 2)).astype(np.uint8)
        picture[:, 4 * self.lit : 4 * self.lit + 4, 0] += 150
        return picture

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._picture(), {}

    def step(self, action):
        right = int(action) == (1 - self.lit if self.mirrored else self.lit)
        return self._picture(), float(right), False, False, {"success": float(right)}

    def render(self):
        return np.zeros((8, 8, 3), np.uint8)

    def get_state(self):
        return {"lit": self.lit}

    def set_state(self, state):
        self.lit = state["lit"]


gymnasium.register("Picture-v0", Picture, max_episode_steps=10)
