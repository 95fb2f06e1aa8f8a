"""Gymnasium ids of suites with their own physics: ``gymnasium.make("varshare_pl/ComplexCartPole-v0", task=2)``."""

from __future__ import annotations

import gymnasium as gym

from varshare_pl.envs.physics_suite import env_id
from varshare_pl.envs.suites import PHYSICS_SUITES, get_suite


def register_envs() -> None:
    """Register every suite with physics of its own once; calling it again changes nothing."""
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
