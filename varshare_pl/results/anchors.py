"""Fixed anchors that make returns of several tasks comparable: score = (return − low) / (high − low).

``low`` is the mean return of the uniformly random policy, of 20,000 episodes a task (``python -m benchmarks.anchors``
measures it, the standard error is below 0.15 for the CartPoles and 2 for the pendulums); ``high`` is the most that an
episode can earn. They belong to a version of a suite and never change, so a further method or run changes no older
number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_CARTPOLE = 22.3
_PENDULUM = (-1230.0, -1207.0, -1275.0)


@dataclass(frozen=True)
class Anchors:
    """The returns that count as 0 and as 1, of each task."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def scores(self, returns: Array) -> Array:
        """Scores of returns whose last axis is the tasks."""
        low, high = np.array(self.low), np.array(self.high)
        return np.asarray((returns - low) / (high - low))


def _cartpoles(*low: float) -> Anchors:
    return Anchors(low, (500.0,) * len(low))


ANCHORS: dict[tuple[str, int], Anchors] = {  # suite and its version
    ("CartPole", 0): _cartpoles(_CARTPOLE),
    ("ComplexCartPole", 0): _cartpoles(_CARTPOLE, 14.8, 33.6, 23.4, 18.2),
    ("IdenticalCartPole", 0): _cartpoles(*[_CARTPOLE] * 5),
    ("MultiTaskCartPole", 0): _cartpoles(_CARTPOLE, 21.8, 29.6, 22.5, 23.6, 33.3),
    ("MirroredCartPole", 0): _cartpoles(_CARTPOLE, _CARTPOLE),
    ("PendulumFamily", 0): Anchors(2 * _PENDULUM, (0.0,) * 6),
    ("PendulumFamilyMirrored", 0): Anchors(2 * _PENDULUM, (0.0,) * 6),
    ("ConflictBandit", 0): Anchors((0.2,) * 5, (1.0,) * 5),
}


def anchors_of(suite: str, version: int | None, num_tasks: int) -> Anchors | None:
    """The anchors of a suite; None for one without, which is reported in raw returns."""
    found = None if version is None else ANCHORS.get((suite, version))
    return found if found is not None and len(found.low) == num_tasks else None
