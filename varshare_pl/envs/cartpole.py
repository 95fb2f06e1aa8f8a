"""Suites of CartPoles that differ in their physics."""

from __future__ import annotations

from collections.abc import Mapping

from varshare_pl.envs.physics.cartpole import CartPole, CartPolePhysics
from varshare_pl.envs.physics_suite import physics_suite
from varshare_pl.envs.success import SuccessMeasure
from varshare_pl.envs.tasks import TaskSuite

SUCCESS = SuccessMeasure(solved=475.0)  # mean return
BASELINE = CartPolePhysics()


def _suite(name: str, tasks: Mapping[str, CartPolePhysics]) -> TaskSuite:
    return physics_suite(name, tuple(tasks), CartPole(list(tasks.values())), SUCCESS)


def cartpole() -> TaskSuite:
    """Gymnasium's CartPole, one task."""
    return _suite("CartPole", {"baseline": BASELINE})


def complex_cartpole() -> TaskSuite:
    """Five CartPoles with other poles, gravity and limits."""
    return _suite(
        "ComplexCartPole",
        {
            "baseline": BASELINE,
            "short light pole": CartPolePhysics(pole_mass=0.05, half_length=0.25),
            "long heavy pole": CartPolePhysics(pole_mass=0.2, half_length=1.0),
            "low gravity": CartPolePhysics(gravity=6.0),
            "tight limits": CartPolePhysics(x_limit=1.5, angle_limit=8.0),
        },
    )


def identical_cartpole() -> TaskSuite:
    """Five equal CartPoles."""
    return _suite("IdenticalCartPole", {f"copy {k}": BASELINE for k in range(5)})


def multi_task_cartpole() -> TaskSuite:
    """Six CartPoles that each differ in one number."""
    return _suite(
        "MultiTaskCartPole",
        {
            "baseline": BASELINE,
            "high gravity": CartPolePhysics(gravity=12.0),
            "heavy cart": CartPolePhysics(cart_mass=2.0),
            "heavy pole": CartPolePhysics(pole_mass=0.5),
            "low gravity": CartPolePhysics(gravity=5.0),
            "long pole": CartPolePhysics(half_length=1.0),
        },
    )


def mirrored_cartpole() -> TaskSuite:
    """Two CartPoles whose actions are swapped: what is right in one is wrong in the other."""
    return _suite("MirroredCartPole", {"baseline": BASELINE, "swapped actions": CartPolePhysics(swapped=True)})
