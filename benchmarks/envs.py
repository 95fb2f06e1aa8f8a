"""Vector envs alone: random actions on 64 CartPoles, autoresets included; and physics alone, without envs around it."""

from __future__ import annotations

import time
from typing import Any

import gymnasium
import numpy as np

from benchmarks.cases import MILLIONS, SPEED, Figures
from varshare_pl.envs import get_suite, make_vector_env

ENVS = 64
PHYSICS_ENVS = 256


def batched(scale: float) -> Figures:
    """Ours."""
    return _steps(make_vector_env("CartPole", ENVS, "batched"), round(20_000 * scale))


def gymnasium_vector(scale: float) -> Figures:
    """Gymnasium's CartPoleVectorEnv, written for CartPole alone."""
    return _steps(gymnasium.make_vec("CartPole-v1", ENVS, "vector_entry_point"), round(20_000 * scale))


def gymnasium_sync(scale: float) -> Figures:
    """Gymnasium's SyncVectorEnv, which steps any envs one after the other."""
    return _steps(gymnasium.make_vec("CartPole-v1", ENVS, "sync"), round(2_000 * scale))


def physics(scale: float, suite: str) -> Figures:
    """Steps of the physics of a suite in NumPy, no observations, no resets, random actions."""
    dynamics, rng = get_suite(suite).dynamics, np.random.default_rng(1)
    assert dynamics is not None
    state = tuple(dynamics.initial_states(rng, PHYSICS_ENVS).T.copy())
    params = tuple(dynamics.table[:, np.arange(PHYSICS_ENVS) % dynamics.num_tasks])
    steps, size = max(1, round(20_000 * scale)), dynamics.action_space.shape[0]
    actions = [tuple(rows) for rows in rng.uniform(-1.0, 1.0, (64, size, PHYSICS_ENVS))]
    start = time.process_time()
    for step in range(steps):
        state, _, _ = dynamics.step(state, actions[step % 64], params)
    return {MILLIONS: steps * PHYSICS_ENVS / 1e6 / (time.process_time() - start)}


def _steps(envs: gymnasium.vector.VectorEnv[Any, Any, Any], steps: int) -> Figures:
    envs.reset(seed=1)
    actions = np.random.default_rng(1).integers(0, 2, size=(max(1, steps), envs.num_envs))
    start = time.perf_counter()
    for action in actions:
        envs.step(action)
    seconds = time.perf_counter() - start
    envs.close()
    return {SPEED: len(actions) * envs.num_envs / seconds}
