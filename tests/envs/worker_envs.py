"""Envs that do in one of several moments what they should not; registered as ``worker_envs:Trouble-v0``."""

import dataclasses
import os
import signal
import time
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete

from varshare_pl.envs import get_suite, make_vector_env

IDS = [{"id": "worker_envs:Trouble-v0", "name": name} for name in ("good", "bad", "ugly")]


class Trouble(gym.Env):
    """Episodes of four steps that observe draws of their own stream; ``fault`` happens in ``moment``."""

    observation_space, action_space = Box(-1, 1, (2,), np.float32), Discrete(2)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012

    def __init__(self, fault="none", moment="never", render_mode=None):
        self.fault, self.moment, self.render_mode, self.steps, self.life = fault, moment, render_mode, 0, 0
        self._trouble("make")

    def _trouble(self, moment):
        if moment == self.moment:
            if self.fault == "raise":
                raise RuntimeError(f"no {moment}\ntoday")
            if self.fault == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fault == "exit":
                os._exit(3)
            while self.fault == "hang":
                time.sleep(0.01)
            if self.fault == "spin":
                while True:
                    pass
            if self.fault == "slow":
                time.sleep(0.4)
            if self.fault == "warn":
                warnings.warn(f"strange {moment}", stacklevel=1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._trouble("reset")
        self.steps = 0
        return self._observe(), {"first": True}

    def step(self, action):
        self.steps, self.life = self.steps + 1, self.life + 1
        if self.steps == 3:
            self._trouble("step")
        told = {"score": self.life / 8} if self.steps % 2 else {"none": None}
        return self._observe(), float(action), self.steps == 4, False, told

    def _observe(self):
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)

    def close(self):
        self._trouble("close")

    def render(self):
        return np.full((2, 3, 3), self.steps, np.uint8)

    def threads(self):
        return os.environ.get("OMP_NUM_THREADS")

    def place(self):
        return os.getpid()

    def get_state(self):
        return {"steps": self.steps, "life": self.life}

    def set_state(self, state):
        self.steps, self.life = state["steps"], state["life"]


gym.register("Trouble-v0", Trouble)


def make(num_envs, backend="workers", fault="none", moment="never", **options):
    """Three tasks, the second of which has a fault; the suite knows nothing of it before its envs are made."""
    suite = get_suite(IDS)
    good, bad, ugly = suite.tasks
    bad = dataclasses.replace(bad, kwargs={"fault": fault, "moment": moment})
    if backend == "workers":
        options = {"num_workers": 2, **options}
    return make_vector_env(dataclasses.replace(suite, tasks=(good, bad, ugly)), num_envs, backend, seed=3, **options)


def play(vec, steps, seed=0):
    actions = np.random.default_rng(seed).integers(0, 2, (steps, vec.num_envs))
    return [vec.step(action) for action in actions]


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return False
    return state not in "ZX"
