"""The backend "workers" beside what its envs can do alone, each on a core of its own: two workers, 20 envs each."""

from __future__ import annotations

import os
import re
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from benchmarks.cases import SPEED, Figures, NotAvailableError
from varshare_pl.envs import TaskSpec, TaskSuite, make_vector_env

WORKERS, ENVS = 2, 40
SECONDS = 4.0  # of each part
OF_IDEAL = "of_ideal"  # env steps per second over those of as many processes that step one env each
OVERHEAD = "overhead_us"  # microseconds that an env step takes longer than alone
MEMORY = "pss_mb"


class Idle(gym.Env[Any, Any]):
    """Does nothing, in episodes of 500 steps, with Meta-World's sizes."""

    observation_space, action_space = Box(-1, 1, (39,), np.float64), Box(-1, 1, (4,), np.float32)
    busy = 0.0  # seconds of processor time that a step takes

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(39), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        end = time.thread_time() + self.busy
        while self.busy and time.thread_time() < end:
            pass
        return np.zeros(39), 0.0, False, self.steps == 500, {"success": 0.0}


class Busy(Idle):
    """The same, but as slow as the fastest envs of Meta-World."""

    busy = 150e-6


def measure(scale: float, env: str) -> Figures:
    """Env steps per second, the share of the ideal, microseconds of overhead an env step, and memory of all processes.

    Args:
        scale: How much work.
        env: A Gymnasium id.
    """
    try:
        one = gym.make(env)
    except gym.error.DependencyNotInstalled as error:
        raise NotAvailableError(f"{env}: {error}") from error
    tasks = (TaskSpec(env, env),)
    suite: Any = TaskSuite(env, tasks, one.observation_space, one.action_space)  # type: ignore[arg-type]
    one.close()
    seconds = SECONDS * scale
    options: dict[str, Any] = {"num_workers": WORKERS, "info_keys": ("success",)}
    with ProcessPoolExecutor(WORKERS) as pool:
        list(pool.map(_alone, [env] * WORKERS, [0.0] * WORKERS))  # loads what they need
        envs = make_vector_env(suite, ENVS, "workers", **options)
        try:
            together, alone = [], []
            envs.reset()
            for _ in range(3):  # in turn, for a machine that others use too
                together.append(_steps(envs, seconds))
                alone.append(sum(pool.map(_alone, [env] * WORKERS, [seconds] * WORKERS)))
            memory = sum(_pss(pid) for pid in {os.getpid(), *_pids(envs)})
        finally:
            envs.close()
    speed, ideal = float(np.median(together)), float(np.median(alone))
    overhead = 1e6 * WORKERS * (1 / speed - 1 / ideal)
    return {SPEED: speed, OF_IDEAL: speed / ideal, OVERHEAD: overhead, MEMORY: memory}


def _steps(envs: Any, seconds: float) -> float:
    """Env steps per second."""
    actions = _actions(envs.single_action_space, ENVS)
    start, count = time.perf_counter(), 0
    while not count or time.perf_counter() - start < seconds:
        envs.step(actions[count % len(actions)])
        count += 1
    return count * ENVS / (time.perf_counter() - start)


def _alone(env: str, seconds: float) -> float:
    """Env steps per second of one env, resets included."""
    one = gym.make(env)
    actions = _actions(one.action_space, 1)[:, 0]
    one.reset(seed=1)
    start, count = time.perf_counter(), 0
    while not count or time.perf_counter() - start < seconds:
        _, _, terminated, truncated, _ = one.step(actions[count % len(actions)])
        if terminated or truncated:
            one.reset()
        count += 1
    speed = count / (time.perf_counter() - start)
    one.close()
    return speed


def _actions(space: Any, envs: int) -> np.ndarray[Any, Any]:
    draws = np.random.default_rng(1).uniform(space.low, space.high, (100, envs, *space.shape))
    return np.asarray(draws.astype(np.float32))


def _pids(envs: Any) -> list[int]:
    return [worker.process.pid for worker in envs._workers]


def _pss(pid: int) -> float:
    """Megabytes of a process, with its share of what it has together with others; 0 where the system does not tell."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    found = re.search(r"^Pss: +(\d+) kB", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


gym.register("Idle-v0", "benchmarks.workers:Idle")
gym.register("Busy-v0", "benchmarks.workers:Busy")
