"""The smallest suite with any action space: name a number that is seen, with the sign of the task."""

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from varshare_pl.envs import TaskSpec, TaskSuite
from varshare_pl.envs.physics.dynamics import Dynamics
from varshare_pl.envs.physics.single import DynamicsEnv
from varshare_pl.envs.success import SuccessMeasure

BOX = {"action_space": Box(-1.0, 1.0, (2,))}
ACTIONS = {  # by the name of a distribution: the action space, and options of the model
    "categorical": {"action_space": Discrete(5)},
    "multi-discrete": {"action_space": MultiDiscrete([5, 3])},
    "gaussian": BOX,
    "gaussian, shared": BOX | {"log_std": "shared"},
    "gaussian, network": BOX | {"log_std": "network"},
    "tanh": BOX | {"action_bounds": "tanh"},
    "tanh, network": BOX | {"action_bounds": "tanh", "log_std": "network"},
}


class Reach(Dynamics):
    """One step; −|a − x|² for x and −x in the two tasks, a and x of two dimensions in [−1, 1]; actions are scaled."""

    state_size = 2
    table = np.array([[1.0, -1.0]])
    observation_space = Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, action_space):
        self.action_space = action_space

    def initial_states(self, rng, count):
        return rng.uniform(-1.0, 1.0, (count, 2))

    def step(self, state, action, params, xp=np):
        values, (sign,) = action if isinstance(self.action_space, Box | MultiDiscrete) else (action, action), params
        if not isinstance(self.action_space, Box):
            sizes = np.broadcast_to(getattr(self.action_space, "nvec", getattr(self.action_space, "n", 0)), 2).tolist()
            values = [value * (2.0 / (size - 1)) - 1.0 for value, size in zip(values, sizes, strict=True)]
        offs = [value - sign * x for value, x in zip(values, state, strict=True)]
        return state, -(offs[0] * offs[0] + offs[1] * offs[1]), True

    def observe(self, state, xp=np):
        return state


def reach(action_space):
    """The suite, and its Gymnasium id."""
    dynamics, name = Reach(action_space), f"Reach{type(action_space).__name__}-v0"
    if name not in gym.registry:
        gym.register(name, lambda task=0: DynamicsEnv(dynamics, task))
    tasks = tuple(TaskSpec(task, name, {"task": k}) for k, task in enumerate(("as it is", "mirrored")))
    solved = SuccessMeasure(solved=-0.1)
    return TaskSuite("Reach", tasks, dynamics.observation_space, action_space, solved, dynamics=dynamics)


def parts(name):
    """The suite and the model's options of a distribution."""
    options = dict(ACTIONS[name])
    return reach(options.pop("action_space")), options
