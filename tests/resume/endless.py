"""An env whose episodes a greedy policy may never end; registered as ``endless:Endless-v0``."""

import os

import gymnasium
import numpy as np


class Endless(gymnasium.Env):
    """Ends where action 1 is taken.

    Args:
        number: A signal that it sends to its own process at step 101 of an episode; 0: none.
        evaluation: In which evaluation of two such episodes, from 1.
        image: The type of what it draws.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    long = 0  # episodes of more than 100 steps so far
    always = 0  # a signal that every env sends, whatever its number

    def __init__(self, number=0, evaluation=1, image="uint8", render_mode=None):
        self.number, self.evaluation, self.image, self.render_mode = number, evaluation, image, render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.steps == 101:
            Endless.long += 1
            if (number := self.always or self.number) and Endless.long == 2 * self.evaluation - 1:
                os.kill(os.getpid(), number)
        return np.zeros(1, np.float32), float(action == 0), bool(action == 1), False, {}

    def render(self):
        return np.zeros((8, 12, 3), self.image)

    def get_state(self):
        return {"steps": self.steps}

    def set_state(self, state):
        self.steps = state["steps"]


gymnasium.register("Endless-v0", Endless)
