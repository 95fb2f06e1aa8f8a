"""A suite of bandits that disagree."""

from __future__ import annotations

from varshare_pl.envs.physics.bandit import ConflictBandit
from varshare_pl.envs.physics_suite import physics_suite
from varshare_pl.envs.tasks import TaskSuite


def conflict_bandit() -> TaskSuite:
    """Five bandits that look alike; in each another action is right."""
    return physics_suite("ConflictBandit", [f"action {k} is right" for k in range(5)], ConflictBandit(), 0.95)
