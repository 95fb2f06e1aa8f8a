"""Suites of point masses with a known answer: how much the tasks differ is an angle from 0 to 1."""

from __future__ import annotations

from collections.abc import Mapping

from varshare_pl.envs.physics.point_mass import PointMass, PointMassTask
from varshare_pl.envs.physics_suite import physics_suite
from varshare_pl.envs.success import SuccessMeasure
from varshare_pl.envs.tasks import TaskSuite
from varshare_pl.errors import ConfigError

SUCCESS = SuccessMeasure(info="success", reduce="any", solved=0.9)


def point_mass_dial(angle: float = 1.0, num_tasks: int = 6) -> TaskSuite:
    """Tasks whose controls are turned by m · (360° / num_tasks) · angle.

    Args:
        angle: 0: all tasks are equal; 1: the turns are evenly spread round the circle.
        num_tasks: How many tasks there are, at least 2.
    """
    if num_tasks < 2:
        raise ConfigError(f"suite.num_tasks: {num_tasks} is not allowed; an integer from 2 on is")
    degrees = [360.0 / num_tasks * m * angle for m in range(num_tasks)]
    return _turned("PointMassDial", angle, degrees, {} if num_tasks == 6 else {"num_tasks": num_tasks})


def point_mass_clusters(angle: float = 1.0) -> TaskSuite:
    """Two clusters of three equal tasks.

    Args:
        angle: The controls of the second cluster are turned by 180° times this.
    """
    return _turned("PointMassClusters", angle, [0.0] * 3 + [180.0 * angle] * 3)


def point_mass_outlier(angle: float = 1.0) -> TaskSuite:
    """Five equal tasks and one other.

    Args:
        angle: The controls of the last one are turned by 180° times this.
    """
    return _turned("PointMassOutlier", angle, [0.0] * 5 + [180.0 * angle])


def point_mass_goals(angle: float = 1.0) -> TaskSuite:
    """Six tasks with the same controls and other goals: what differs cannot be told from the state.

    Args:
        angle: The goals lie on a circle at m · 60° times this.
    """
    degrees = [60.0 * m * angle for m in range(6)]
    return _suite(
        "PointMassGoals", angle, {f"goal {m} at {d:g}°": PointMassTask(goal=d) for m, d in enumerate(degrees)}
    )


def _turned(name: str, angle: float, degrees: list[float], other: Mapping[str, int] | None = None) -> TaskSuite:
    tasks = {f"task {m} turned {turn:g}°": PointMassTask(turn) for m, turn in enumerate(degrees)}
    return _suite(name, angle, tasks, other)


def _suite(
    name: str, angle: float, tasks: Mapping[str, PointMassTask], other: Mapping[str, int] | None = None
) -> TaskSuite:
    """A suite; ``other`` are its options beside the angle that are not their defaults."""
    if not 0.0 <= angle <= 1.0:
        raise ConfigError(f"suite.angle: {angle} is not allowed; a number from 0 to 1 is")
    options, physics = dict(other or {}), PointMass(list(tasks.values()))
    variant = "-".join([*([f"{angle:g}"] if angle != 1.0 else []), *(f"{n}tasks" for n in options.values())])
    return physics_suite(name, tuple(tasks), physics, SUCCESS, {"angle": angle, **options}, variant)
