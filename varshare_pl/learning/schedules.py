"""The KL's weight over a run: pure functions of the fraction of training that is done.

A fraction is rollout / number of rollouts, so a run that is extended follows its new length from where it goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

KLSchedule = Literal["constant", "warmup_ramp"]

WARM = 0.1  # the end of the warm-up
HELD = 0.8  # the end of the hold


def warmup_ramp(fraction: float) -> float:
    """0 → 1 over the first tenth, 1 up to eight tenths, then 1 → 2 up to the end."""
    if fraction < WARM:
        return fraction / WARM
    return 1.0 + max(0.0, fraction - HELD) / (1.0 - HELD)


KL_SCHEDULES: dict[KLSchedule, Callable[[float], float] | None] = {"constant": None, "warmup_ramp": warmup_ramp}
"""What kl_weight is multiplied with, by the fraction of training that is done; None: 1."""
