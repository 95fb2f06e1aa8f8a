"""Vector envs alone: random actions on 64 CartPoles, autoresets included."""

from __future__ import annotations

import time
from typing import Any

import gymnasium
import numpy as np

from benchmarks.cases import SPEED, Figures
from varshare_pl.envs import make_vector_env

ENVS = 64


def batched(scale: float) -> Figures:
    """Ours."""
    return _steps(make_vector_env("CartPole", ENVS, "batched"), round(20_000 * scale))


def gymnasium_vector(scale: float) -> Figures:
    """Gymnasium's CartPoleVectorEnv, written for CartPole alone."""
    return _steps(gymnasium.make_vec("CartPole-v1", ENVS, "vector_entry_point"), round(20_000 * scale))


def gymnasium_sync(scale: float) -> Figures:
    """Gymnasium's SyncVectorEnv, which steps any envs one after the other."""
    return _steps(gymnasium.make_vec("CartPole-v1", ENVS, "sync"), round(2_000 * scale))


def _steps(envs: gymnasium.vector.VectorEnv[Any, Any, Any], steps: int) -> Figures:
    envs.reset(seed=1)
    actions = np.random.default_rng(1).integers(0, 2, size=(max(1, steps), envs.num_envs))
    start = time.perf_counter()
    for action in actions:
        envs.step(action)
    seconds = time.perf_counter() - start
    envs.close()
    return {SPEED: len(actions) * envs.num_envs / seconds}
