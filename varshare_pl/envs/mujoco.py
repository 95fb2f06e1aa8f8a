"""Families of Gymnasium's MuJoCo envs: one body under other gravity, mass, friction, or with another direction to run.

The variants stand in the tradition of the dynamics that multi-task and meta-learning papers vary; HalfCheetah that runs
forwards or backwards is the direction task of MAML (Finn et al. 2017, arXiv 1703.03400).
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from varshare_pl.envs.extras import need
from varshare_pl.envs.tasks import TaskSpec, TaskSuite
from varshare_pl.errors import ConfigError

CHEETAH_ID = "varshare_pl/HalfCheetahVariant-v5"
HOPPER_ID = "varshare_pl/HopperVariant-v5"
HORIZON = 1000

_DYNAMICS: dict[str, dict[str, float]] = {
    "baseline": {},
    "low gravity": {"gravity": 0.7},
    "heavy": {"mass": 1.3},
    "slippery": {"friction": 0.6},
}
_BACKWARDS: dict[str, dict[str, float]] = {
    "backwards": {"direction": -1},
    "backwards, low gravity": {"direction": -1, "gravity": 0.7},
}


def mujoco_cheetah_family(directions: bool = True, horizon: int = HORIZON) -> TaskSuite:
    """HalfCheetah-v5 with four kinds of dynamics, and two tasks in which it is to run backwards.

    Args:
        directions: With the two tasks that run backwards: six tasks, else four.
        horizon: Steps of an episode; Gymnasium's are 1000.

    Raises:
        ConfigError: for a horizon of no step, or where MuJoCo is not installed.
    """
    need("mujoco", "mujoco", "CheetahFamily", load=False)
    variants = {**_DYNAMICS, **(_BACKWARDS if directions else {})}
    name = "CheetahFamily" if directions else "CheetahFamilyForwards"
    return _family(name, CHEETAH_ID, variants, horizon, observations=17, actions=6)


def mujoco_hopper_family(horizon: int = HORIZON) -> TaskSuite:
    """Hopper-v5 with four kinds of dynamics.

    Args:
        horizon: Steps of an episode at most; Gymnasium's are 1000. An episode ends when the hopper falls.

    Raises:
        ConfigError: for a horizon of no step, or where MuJoCo is not installed.
    """
    need("mujoco", "mujoco", "HopperFamily", load=False)
    return _family("HopperFamily", HOPPER_ID, _DYNAMICS, horizon, observations=11, actions=3)


def _family(
    name: str, env_id: str, variants: dict[str, dict[str, float]], horizon: int, observations: int, actions: int
) -> TaskSuite:
    if horizon < 1:
        raise ConfigError(f"suite.horizon: {horizon} is not allowed; an integer of at least 1 is")
    action_space: Any = Box(-1.0, 1.0, (actions,), np.float32)
    base = {CHEETAH_ID: "HalfCheetah-v5", HOPPER_ID: "Hopper-v5"}[env_id]
    return TaskSuite(
        name=name if horizon == HORIZON else f"{name}_{horizon}_steps",
        tasks=tuple(
            TaskSpec(variant, env_id, {**changes, "max_episode_steps": horizon})
            for variant, changes in variants.items()
        ),
        observation_space=Box(-np.inf, np.inf, (observations,), np.float64),
        action_space=action_space,
        protocol=f"Gymnasium's {base}, MuJoCo {version('mujoco')}, with changed dynamics, horizon {horizon}, "
        f"returns of the env's own reward",
    )


def make_cheetah(
    gravity: float = 1.0,
    mass: float = 1.0,
    friction: float = 1.0,
    direction: int = 1,
    render_mode: str | None = None,
) -> gym.Env[Any, Any]:
    """HalfCheetah-v5 with factors for its gravity, mass and friction; direction −1 rewards running backwards.

    Raises:
        ConfigError: for a value that is not allowed.
    """
    if direction not in (1, -1):
        raise ConfigError(f"kwargs.direction: {direction!r} is not allowed; 1 and -1 are")
    from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv

    env = HalfCheetahEnv(forward_reward_weight=float(direction), render_mode=render_mode)
    return _changed(env, gravity, mass, friction)


def make_hopper(
    gravity: float = 1.0, mass: float = 1.0, friction: float = 1.0, render_mode: str | None = None
) -> gym.Env[Any, Any]:
    """Hopper-v5 with factors for its gravity, mass and friction.

    Raises:
        ConfigError: for a value that is not allowed.
    """
    from gymnasium.envs.mujoco.hopper_v5 import HopperEnv

    return _changed(HopperEnv(render_mode=render_mode), gravity, mass, friction)


def _changed(env: Any, gravity: float, mass: float, friction: float) -> gym.Env[Any, Any]:
    """Scale gravity; masses with inertias, as of another density; and the sliding friction of all bodies."""
    for name, factor in (("gravity", gravity), ("mass", mass), ("friction", friction)):
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < np.inf:
            raise ConfigError(f"kwargs.{name}: {factor!r} is not allowed; a factor above 0 is")
    import mujoco

    env.model.opt.gravity[2] *= gravity
    env.model.body_mass[:] *= mass
    env.model.body_inertia[:] *= mass
    env.model.geom_friction[:, 0] *= friction
    mujoco.mj_setConst(env.model, env.data)  # what MuJoCo derives from masses
    changed: gym.Env[Any, Any] = env
    return changed
