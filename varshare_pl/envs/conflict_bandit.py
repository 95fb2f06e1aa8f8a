"""A suite of bandits that disagree."""

from __future__ import annotations

from varshare_pl.envs.physics.bandit import ConflictBandit
from varshare_pl.envs.physics_suite import physics_suite
from varshare_pl.envs.success import SuccessMeasure
from varshare_pl.envs.tasks import TaskSuite


def conflict_bandit() -> TaskSuite:
    """Five bandits that look alike; in each another action is right."""
    names = [f"action {k} is right" for k in range(5)]
    return physics_suite("ConflictBandit", names, ConflictBandit(), SuccessMeasure(solved=0.95))
