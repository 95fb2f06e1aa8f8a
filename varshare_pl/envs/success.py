"""What counts as success in the tasks of a suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from varshare_pl.envs.values import is_vector_key, numbers_of_step
from varshare_pl.errors import EnvError

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

    @property
    def info_keys(self) -> tuple[str, ...]:
        """The numbers of the info that are needed at every step."""
        return () if self.info is None else (self.info,)


class EpisodeSuccess:
    """The measure of the episode under way in each of N envs, out of the info of every step.

    A step whose info lacks the key is left out, an episode of such steps alone has no number.

    Args:
        measure: One with a key of the info.
        num_envs: N.
        where: Names the env of an index, its task and its step.
    """

    def __init__(self, measure: SuccessMeasure, num_envs: int, where: Callable[[int], str]) -> None:
        assert measure.info is not None
        self.key = measure.info
        self._reduce = measure.reduce
        self._where = where
        self._value = np.zeros(num_envs)
        self._told = np.zeros(num_envs, np.int64)  # steps of the episode that told the number
        self.instead: list[str] | None = None  # what the last info of an episode without a number had

    def step(self, info: Mapping[str, Any], done: NDArray[np.bool_]) -> None:
        """Take the infos of a step.

        Args:
            info: As the vector env's ``step`` returned it.
            done: (N,) where an episode ended.

        Raises:
            EnvError: if an env tells what is no number.
        """
        # Under SAME_STEP an env that is done has the next episode's info there, and the step's own in final_info.
        self._add(info, ~done)
        if done.any():
            self._add(info.get("final_info", {}), done)

    def end(self, ended: NDArray[np.bool_], info: Mapping[str, Any]) -> NDArray[np.float64]:
        """The numbers of the episodes that ended, one for each env in the mask, and NaN where the env told none."""
        value, told = self._value[ended], self._told[ended]
        self._value[ended] = self._told[ended] = 0
        if not told.all():
            last = info.get("final_info", info)
            self.instead = sorted(key for key in last if not is_vector_key(key) and key != "task")
        if self._reduce == "mean":
            value /= np.maximum(told, 1)
        return np.where(told > 0, value, np.nan)

    def complaint(self, what: str) -> str:
        """A line about episodes without a number, in training or in an evaluation."""
        has = ", ".join(self.instead or ()) or "nothing"
        return (
            f"success: the info of some episodes of {what} has no {self.key!r}, the last such one had: {has}; they are "
            "left out of the mean, and success_missing in diagnostics.csv counts them"
        )

    def get_state(self) -> list[list[float]]:
        """For each env what its episode came to so far, and how many of its steps told it."""
        return [list(pair) for pair in zip(self._value.tolist(), self._told.tolist(), strict=True)]

    def set_state(self, state: Sequence[Sequence[float]]) -> None:
        """Go on where ``get_state`` was called."""
        self._value = np.array([value for value, _ in state], np.float64)
        self._told = np.array([told for _, told in state], np.int64)

    def _add(self, info: Mapping[str, Any], of: NDArray[np.bool_]) -> None:
        if self.key not in info:
            return
        told = of & np.asarray(info.get(f"_{self.key}", True), np.bool_)
        numbers = numbers_of_step(info[self.key], told)
        strange = np.flatnonzero(told & np.isnan(numbers))
        if len(strange):
            raise EnvError(f"{self._where(int(strange[0]))}: {self.key!r} in the info is no number; one is needed")
        before = self._value
        reduced = {
            "any": np.maximum(before, numbers > 0),
            "last": numbers,
            "max": np.where(self._told > 0, np.maximum(before, numbers), numbers),
            "mean": before + numbers,
        }[self._reduce]
        self._value = np.where(told, reduced, before)
        self._told = self._told + told
