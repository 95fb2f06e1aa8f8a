"""A suite of mountain cars whose engines get weaker and weaker."""

from __future__ import annotations

from varshare_pl.envs.physics.mountain_car import MountainCar
from varshare_pl.envs.physics_suite import physics_suite
from varshare_pl.envs.success import SuccessMeasure
from varshare_pl.envs.tasks import TaskSuite

POWERS = (0.004, 0.0025, 0.0018, 0.0014, 0.0011, 0.0009)  # of the rungs, strongest first
SUCCESS = SuccessMeasure(info="success", reduce="any", solved=0.9)


def mountain_car_ladder(mirrored: bool = False) -> TaskSuite:
    """Six cars. Strong ones find the goal by chance, weak ones only by what the strong ones have learnt.

    Args:
        mirrored: Three rungs of the ladder, each also with reversed controls, in place of six rungs: what is right in
            one half is wrong in the other.
    """
    powers = [sign * power for sign in (1, -1) for power in POWERS[::2]] if mirrored else list(POWERS)
    names = [f"engine {abs(power):g}{', reversed' if power < 0 else ''}" for power in powers]
    variant = "mirrored" if mirrored else ""
    return physics_suite("MountainCarLadder", names, MountainCar(powers), SUCCESS, {"mirrored": mirrored}, variant)
