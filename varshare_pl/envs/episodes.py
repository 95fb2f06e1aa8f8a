"""What is known of the episodes under way in a vector env, for training and for evaluations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varshare_pl.envs.success import EpisodeSuccess, SuccessMeasure
from varshare_pl.envs.values import final_numbers


class RunningEpisodes:
    """Return, length and success of the episode under way in each of N envs.

    Args:
        num_envs: N.
        where: Names the env of an index, its task and its step.
        success: What counts as success.
        info_metrics: Numbers of an episode's last info to keep.

    Attributes:
        returns: (N,) float64, sums of raw rewards.
        lengths: (N,) int64, env steps.
        success: None where the measure is the return.
    """

    def __init__(
        self,
        num_envs: int,
        where: Callable[[int], str],
        success: SuccessMeasure | None = None,
        info_metrics: Sequence[str] = (),
    ) -> None:
        self.returns = np.zeros(num_envs)
        self.lengths = np.zeros(num_envs, np.int64)
        told = success is not None and success.info is not None
        self.success = EpisodeSuccess(success, num_envs, where) if success is not None and told else None
        self._info_metrics = tuple(info_metrics)
        self._where = where

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of what ``end`` gives."""
        return ("return", "length", *(["success"] if self.success is not None else []), *self._info_metrics)

    def step(self, rewards: NDArray[Any], info: Mapping[str, Any], done: NDArray[np.bool_]) -> None:
        """Count a step of every env.

        Args:
            rewards: (N,), as the envs give them.
            info: As the vector env's ``step`` returned it.
            done: (N,) where an episode ended.
        """
        self.returns += rewards  # in float64
        self.lengths += 1
        if self.success is not None:
            self.success.step(info, done)

    def set_step(
        self, returns: NDArray[Any], lengths: NDArray[Any], info: Mapping[str, Any], done: NDArray[np.bool_]
    ) -> None:
        """As ``step``, where returns and lengths up to and with the step are known; the arrays are kept."""
        self.returns, self.lengths = returns, lengths
        if self.success is not None:
            self.success.step(info, done)

    def end(
        self, done: NDArray[np.bool_], info: Mapping[str, Any], cut: NDArray[np.bool_] | None = None
    ) -> dict[str, NDArray[Any]]:
        """What the episodes came to that ended in the newest step, and begin others: a row for each such env.

        Args:
            done: (N,) where the env ended the episode.
            info: Of the newest step.
            cut: (N,) where it is ended from outside; its info metrics are NaN. None: nowhere.
        """
        ended = done if cut is None else done | cut
        columns: dict[str, NDArray[Any]] = {"return": self.returns[ended], "length": self.lengths[ended]}
        if self.success is not None:
            columns["success"] = self.success.end(ended, info)
        for name in self._info_metrics:
            columns[name] = np.full(int(ended.sum()), np.nan)
            if done.any():
                columns[name][done[ended]] = final_numbers(info, name, done, self._where)
        self.returns[ended] = 0.0
        self.lengths[ended] = 0
        return columns

    def get_state(self) -> dict[str, list[Any]]:
        """Lists of N items, as plain data."""
        state: dict[str, list[Any]] = {"returns": self.returns.tolist(), "lengths": self.lengths.tolist()}
        return state if self.success is None else state | {"success": self.success.get_state()}

    def set_state(self, state: Mapping[str, Any], restarted: NDArray[np.bool_]) -> None:
        """Go on where ``get_state`` was called, with new episodes in the envs of the mask."""
        self.returns = np.where(restarted, 0.0, state["returns"])
        self.lengths = np.where(restarted, 0, state["lengths"]).astype(np.int64)
        if self.success is not None:
            begun = zip(restarted, state["success"], strict=True)
            self.success.set_state([[0.0, 0] if new else pair for new, pair in begun])
