"""Actions of envs with physics of their own: seen to be allowed, and as the values that ``Dynamics.step`` takes."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from numpy.typing import NDArray

from varshare_pl.envs.physics.dynamics import ActionSpace, Value
from varshare_pl.envs.values import short

NEEDED = {"i": "integers", "f": "numbers"}


class Actions:
    """The actions of N envs in arrays that are used again at every step.

    Args:
        space: of one env: ``Discrete``, or a ``MultiDiscrete`` or ``Box`` of one axis.
        num_envs: N.

    Attributes:
        array: (N,) int64 for ``Discrete``, else (A, N), int64 or for a ``Box`` float64.
    """

    def __init__(self, space: ActionSpace, num_envs: int) -> None:
        self._space = space
        self._kind = "f" if isinstance(space, Box) else "i"
        self._shape = (num_envs, *(space.shape or ()))
        self.array: NDArray[Any] = np.zeros(self._shape[::-1], dtype=np.float64 if self._kind == "f" else np.int64)
        self._rows = self.array.T  # the same memory
        if not isinstance(space, Box):
            sizes = space.n if isinstance(space, Discrete) else space.nvec
            self._sizes = np.array(sizes, dtype=np.uint64)
            self._unsigned = self._rows.view(np.uint64)  # negative actions are huge here

    def set(self, actions: Any) -> Value:
        """Copy actions (N, *action) to ``array``; return them as ``Dynamics.step`` takes them.

        A Box's may lie outside its bounds: the physics clips them.

        Raises:
            InvalidAction: for actions of another type or shape, or that do not exist.
        """
        actions = np.asarray(actions)
        if actions.dtype.kind not in ("iuf" if self._kind == "f" else "iu"):
            raise gym.error.InvalidAction(f"actions of type {actions.dtype}; allowed: {NEEDED[self._kind]}")
        if actions.shape == self._shape:
            self._rows[...] = actions
            if self._allowed():
                return self.array if len(self._shape) == 1 else tuple(self.array)
        raise gym.error.InvalidAction(f"actions {short(actions)} are not {self._shape[0]} of {self._space}")

    def _allowed(self) -> bool:
        if self._kind == "f":
            return bool(np.isfinite(self.array).all())
        return not np.count_nonzero(np.greater_equal(self._unsigned, self._sizes))


def single_action(space: ActionSpace, action: Any) -> Value:
    """One env's action as ``Dynamics.step`` takes it.

    Raises:
        InvalidAction: if it is none of the space; a Box's may lie outside its bounds.
    """
    if isinstance(space, Box):
        array = np.asarray(action)
        if array.dtype.kind in "iuf" and array.shape == space.shape and np.isfinite(array).all():
            return tuple(array.astype(np.float64).tolist())
    elif space.contains(action):
        return tuple(np.asarray(action).tolist()) if isinstance(space, MultiDiscrete) else action
    raise gym.error.InvalidAction(f"action {short(action)} is not in {space}")
