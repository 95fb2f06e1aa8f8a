"""A suite of pendulums that differ in gravity, mass and length."""

from __future__ import annotations

from dataclasses import replace

from varshare_pl.envs.physics.pendulum import Pendulum, PendulumPhysics
from varshare_pl.envs.physics_suite import physics_suite
from varshare_pl.envs.success import SuccessMeasure
from varshare_pl.envs.tasks import TaskSuite

SUCCESS = SuccessMeasure(solved=-250.0)  # mean return
TASKS = {
    "baseline": PendulumPhysics(10.0, 1.0, 1.0),
    "light and long": PendulumPhysics(9.0, 0.9, 1.05),
    "heavy and short": PendulumPhysics(11.0, 1.1, 0.95),
}


def pendulum_family(mirrored: bool = False) -> TaskSuite:
    """Six pendulums, three kinds twice.

    Args:
        mirrored: Whether the torque of the second three acts the other way round, so that no policy is right for all.
    """
    again = "mirrored" if mirrored else "again"
    tasks = TASKS | {f"{name}, {again}": replace(task, mirrored=mirrored) for name, task in TASKS.items()}
    dynamics = Pendulum(list(tasks.values()))
    variant = "mirrored" if mirrored else ""
    return physics_suite("PendulumFamily", tuple(tasks), dynamics, SUCCESS, {"mirrored": mirrored}, variant)
