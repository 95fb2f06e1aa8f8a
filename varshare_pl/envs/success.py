"""What counts as success in the tasks of a suite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Reduction = Literal["any", "last", "max", "mean"]


@dataclass(frozen=True)
class SuccessMeasure:
    """A number for each episode, and from which mean on a task counts as solved.

    The number is the episode's return, or a number that the env tells in its info at each step, reduced over the
    episode.

    Attributes:
        info: The key of the info; None: the return.
        reduce: "any": 1 if it was above 0 at any step, else 0; "last", "max" and "mean" of all steps.
        solved: A task is solved where the mean over its episodes is at least this; None: that is not known.
    """

    info: str | None = None
    reduce: Reduction = "any"
    solved: float | None = None
