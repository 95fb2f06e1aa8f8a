"""Arrays in memory that a vector env and its workers share: what goes in and out of the envs at every step."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from gymnasium.spaces import Space
from numpy.typing import NDArray

LINE = 64  # bytes of a cache line, at which each array starts


@dataclass(frozen=True)
class SharedBlock:
    """N envs, W workers, K numbers of an info. Nobody writes while another reads: messages say whose turn it is."""

    actions: NDArray[Any]  # (N, *action)
    obs: NDArray[Any]  # (N, *obs)
    final_obs: NDArray[Any]  # (N, *obs), of the episode that ended in this step
    rewards: NDArray[np.float64]  # (N,)
    terminated: NDArray[np.bool_]  # (N,)
    truncated: NDArray[np.bool_]  # (N,)
    task: NDArray[np.int64]  # (N,) the task of ``obs``
    steps: NDArray[np.int64]  # (N,) of the episode, with the one under way; task_env.BEING_MADE before there is an env
    numbers: NDArray[np.float64]  # (K, N)
    told: NDArray[np.bool_]  # (K, N), where an env's info has such a number
    at: NDArray[np.int64]  # (W,) the env that a worker is at
    begun: NDArray[np.int64]  # (W,) how many envs it has begun with in its life

    @classmethod
    def size(cls, *sizes: Any) -> int:
        """Bytes needed; the arguments are those of ``over``."""
        return sum(_room(*shape) for shape in _shapes(*sizes).values())

    @classmethod
    def over(cls, memory: Any, *sizes: Any) -> SharedBlock:
        """The arrays over a buffer.

        Args:
            memory: A buffer of ``size`` bytes.
            sizes: The space of one observation, that of one action, N, W and K.
        """
        arrays, start = {}, 0
        for name, (shape, dtype) in _shapes(*sizes).items():
            flat = np.frombuffer(memory, dtype, math.prod(shape), start)
            arrays[name] = flat.reshape(shape)
            start += _room(shape, dtype)
        return cls(**arrays)


def _shapes(
    obs: Space[Any], action: Space[Any], envs: int, workers: int, numbers: int
) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    one, of_numbers, of_workers = (envs,), (numbers, envs), (workers,)
    assert obs.shape is not None
    assert action.shape is not None
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        "actions": ((envs, *action.shape), action.dtype),
        "obs": ((envs, *obs.shape), obs.dtype),
        "final_obs": ((envs, *obs.shape), obs.dtype),
        "rewards": (one, np.float64),
        "terminated": (one, np.bool_),
        "truncated": (one, np.bool_),
        "task": (one, np.int64),
        "steps": (one, np.int64),
        "numbers": (of_numbers, np.float64),
        "told": (of_numbers, np.bool_),
        "at": (of_workers, np.int64),
        "begun": (of_workers, np.int64),
    }
    assert list(shapes) == [field.name for field in fields(SharedBlock)]
    return {name: (shape, np.dtype(dtype)) for name, (shape, dtype) in shapes.items()}


def _room(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Bytes of an array, up to where the next one starts."""
    return -(-math.prod(shape) * dtype.itemsize // LINE) * LINE
