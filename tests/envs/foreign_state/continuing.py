"""Step a suite's envs; run as a script it goes on, in a process of its own, from states in files."""

import json
import sys
from pathlib import Path

import numpy as np

from varshare_pl.envs import get_suite, make_vector_env, set_state
from varshare_pl.envs.metaworld import metaworld
from varshare_pl.envs.mujoco import mujoco_cheetah_family, mujoco_hopper_family

MAKERS = {f.__name__: f for f in (metaworld, mujoco_cheetah_family, mujoco_hopper_family)}
STEPS = 100


def make(suite, envs):
    """``suite`` is a list of tasks, or the name of a function of ``MAKERS`` and its options."""
    made = get_suite(suite) if isinstance(suite, list) else MAKERS[suite["make"]](**suite["options"])
    return make_vector_env(made, envs, "sync", seed=3, task_assignment="cycle" if envs % made.num_tasks else "fixed")


def steps(vec, part):
    """The rows of 100 random steps, the first or the second ones: (100, N, observation + reward + ends)."""
    rng, space, envs = np.random.default_rng(part), vec.single_action_space, vec.num_envs
    rows = []
    for _ in range(STEPS):
        if hasattr(space, "n"):
            actions = rng.integers(0, space.n, envs)
        else:
            actions = rng.uniform(space.low, space.high, (envs, *space.shape)).astype(space.dtype)
        obs, rewards, terminated, truncated, _ = vec.step(actions)
        rows.append(np.c_[obs.reshape(envs, -1).astype(np.float64), rewards, terminated, truncated])
    return np.stack(rows)


def go_on(folder):
    asked = json.loads((folder / "asked.json").read_text(encoding="utf-8"))
    vec = make(asked["suite"], asked["envs"])
    set_state(vec, asked["state"])
    np.save(folder / "rows.npy", steps(vec, 1))


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        go_on(Path(folder))
