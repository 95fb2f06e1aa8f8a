"""Action spaces of tasks that differ in size as one, which all tasks of a suite share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete, Space

from varshare_pl.envs.physics.dynamics import ActionSpace
from varshare_pl.errors import ConfigError


def check_actions(space: Space[Any]) -> ActionSpace:
    """See that there are distributions over a task's actions.

    Raises:
        ConfigError: if not; its text says how the env acts and what is allowed.
    """
    if isinstance(space, Box) and np.issubdtype(space.dtype, np.floating) and space.dtype.itemsize <= 8:
        if 0 not in space.shape:
            return space
    elif isinstance(space, Discrete | MultiDiscrete) and not np.any(space.start):
        return space
    raise ConfigError(
        f"acts in {space}; allowed: Discrete or MultiDiscrete actions that start at 0, or a Box of floats"
    )


def common_actions(spaces: Sequence[ActionSpace], pad: bool = False) -> ActionSpace:
    """The one action space of all tasks, without a random stream of its own: the largest, where they may differ.

    Args:
        spaces: Of the tasks.
        pad: Whether sizes may differ; a task masks actions that it does not have, and ignores further dimensions.

    Raises:
        ConfigError: if they differ and may not, or are of several kinds.
    """
    first = spaces[0]
    for k, space in enumerate(spaces):
        if space == first and space.dtype == first.dtype:
            continue
        can = type(space) is type(first) and _can_be_padded(space) and _can_be_padded(first)
        if not (pad and can):
            sizes = can and (isinstance(space, Discrete) or space.shape != first.shape)
            hint = "; sizes that differ need pad: true" if sizes else ""
            raise ConfigError(f"suite[{k}]: acts in {space}, suite[0] in {first}; they must be the same{hint}")
    if isinstance(first, Discrete):
        return Discrete(max(int(space.n) for space in spaces if isinstance(space, Discrete)))
    if isinstance(first, Box):
        return _longest_box([space for space in spaces if isinstance(space, Box)])
    assert isinstance(first, MultiDiscrete)
    return MultiDiscrete(first.nvec.copy())


def action_counts(spaces: Sequence[Space[Any]]) -> tuple[int, ...]:
    """How many Discrete actions each task has, where that differs; else nothing."""
    counts = tuple(int(space.n) for space in spaces if isinstance(space, Discrete))
    return counts if len(set(counts)) > 1 else ()


class CommonActions(gym.ActionWrapper[Any, Any, Any]):
    """Declares the action space of the whole suite; an env whose own Box is shorter gets the first numbers."""

    def __init__(self, env: gym.Env[Any, Any], space: Space[Any]) -> None:
        super().__init__(env)
        self.action_space = space

    def action(self, action: Any) -> Any:
        own = self.env.action_space
        return np.asarray(action)[: own.shape[0]] if isinstance(own, Box) else action


def _can_be_padded(space: Space[Any]) -> bool:
    return isinstance(space, Discrete) or (isinstance(space, Box) and len(space.shape) == 1)


def _longest_box(boxes: Sequence[Box]) -> Box:
    longest = max(boxes, key=lambda box: box.shape)
    for k, box in enumerate(boxes):
        part = longest
        if len(box.shape) == 1:
            part = Box(longest.low[: len(box.low)], longest.high[: len(box.low)], dtype=longest.dtype.type)
        if box != part:
            raise ConfigError(f"suite[{k}]: acts in {box}; with pad: true {part} is allowed, as another task has it")
    return Box(longest.low.copy(), longest.high.copy(), dtype=longest.dtype.type)
