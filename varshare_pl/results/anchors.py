"""Fixed anchors that make returns of several tasks comparable: score = (return − low) / (high − low).

``low`` is the mean return of the uniformly random policy, of 20,000 episodes a task (``python -m benchmarks.anchors``
measures it, the standard error is below 0.15 for the CartPoles and 2 for the pendulums); ``high`` is the most that an
episode can earn. They belong to a version of a suite and never change, so a further method or run changes no older
number. A suite in YAML may have anchors of its own; these are in the run's ``run.json``, and come before those of this
table.
"""

from __future__ import annotations

from collections.abc import Sequence

from varshare_pl.types import Anchors

_CARTPOLE = 22.3
_PENDULUM = (-1230.0, -1207.0, -1275.0)


def _cartpoles(*low: float) -> Anchors:
    return Anchors(low, (500.0,) * len(low))


ANCHORS: dict[tuple[str, int], Anchors] = {  # suite and its version
    ("CartPole", 0): _cartpoles(_CARTPOLE),
    ("ComplexCartPole", 0): _cartpoles(_CARTPOLE, 14.8, 33.6, 23.4, 18.2),
    ("IdenticalCartPole", 0): _cartpoles(*[_CARTPOLE] * 5),
    ("MultiTaskCartPole", 0): _cartpoles(_CARTPOLE, 21.8, 29.6, 22.5, 23.6, 33.3),
    ("MirroredCartPole", 0): _cartpoles(_CARTPOLE, _CARTPOLE),
    ("PendulumFamily", 0): Anchors(2 * _PENDULUM, (0.0,) * 6),
    ("PendulumFamily-mirrored", 0): Anchors(2 * _PENDULUM, (0.0,) * 6),
    ("ConflictBandit", 0): Anchors((0.2,) * 5, (1.0,) * 5),
}


def anchors_of(suite: str, version: int | None, num_tasks: int) -> Anchors | None:
    """The anchors of a suite; None for one without, which is reported in raw returns."""
    found = None if version is None else ANCHORS.get((suite, version))
    return found if found is not None and len(found.low) == num_tasks else None


def anchors_text(anchors: Anchors | None) -> str:
    """Anchors in words; nothing for a suite without its own."""
    return "" if anchors is None else f"low {listed_numbers(anchors.low)}, high {listed_numbers(anchors.high)}"


def listed_numbers(numbers: Sequence[float]) -> str:
    """Numbers in words, one where all are the same."""
    return ", ".join(f"{number:g}" for number in (numbers[:1] if len(set(numbers)) == 1 else numbers))
