"""Gymnasium ids of the suites' tasks: ``gymnasium.make("varshare_pl/ComplexCartPole-v0", task=2)``."""

from __future__ import annotations

import gymnasium as gym

from varshare_pl.envs.physics_suite import env_id
from varshare_pl.envs.suites import PHYSICS_SUITES, get_suite

_FOREIGN = {  # made of other packages' envs, which are loaded when one is made
    "varshare_pl/MetaWorld-v3": ("metaworld:make_env", 500),
    "varshare_pl/HalfCheetahVariant-v5": ("mujoco:make_cheetah", 1000),
    "varshare_pl/HopperVariant-v5": ("mujoco:make_hopper", 1000),
}


def register_envs() -> None:
    """Register every id once; calling it again changes nothing."""
    for name, (function, steps) in _FOREIGN.items():
        if name not in gym.registry:
            gym.register(name, entry_point=f"varshare_pl.envs.{function}", max_episode_steps=steps)
    for name in PHYSICS_SUITES:
        if env_id(name) in gym.registry:
            continue
        suite = get_suite(name)
        assert suite.dynamics is not None
        gym.register(
            env_id(name),
            entry_point="varshare_pl.envs.physics.single:make_single",
            reward_threshold=suite.solved_return,
            max_episode_steps=suite.dynamics.max_episode_steps,
            kwargs={"suite": name, "task": 0},
        )
