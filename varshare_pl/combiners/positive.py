"""Losses made positive, for combiners that take their ratios or logarithms.

The critic's losses are squares. The actor's lie around 0: −(1 + ε) times the mean of the positive advantages is the
least that the clipped surrogate can be, about −0.6 for normalised advantages.
"""

from __future__ import annotations

from torch import Tensor

from varshare_pl.combiners.base import CombinerSpec
from varshare_pl.errors import RunError

ACTOR_FLOOR = -2.0
SMALLEST = 1e-8


def floor_of(spec: CombinerSpec, actor_floor: float) -> float:
    """What is subtracted from the losses of a network."""
    return actor_floor if spec.network == "actor" else 0.0


def above_floor(losses: Tensor, floor: float) -> Tensor:
    """Losses minus their floor, above 0.

    Raises:
        RunError: where one is below it.
    """
    if bool((losses < floor).any()):
        raise RunError(
            f"model.combiner: a task's loss is {float(losses.min()):.4g}, below {floor:.4g}; a lower "
            "model.combiner.init_args.actor_floor is needed"
        )
    return (losses - floor).clamp_min(SMALLEST)
