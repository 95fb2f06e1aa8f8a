"""Values as plain data: numbers, strings, lists and dicts, as they stand in a checkpoint."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from gymnasium.wrappers.utils import RunningMeanStd

from varshare_pl.envs.seeding import get_stream_state, restore_stream


class NotPlainError(TypeError):
    """A value that cannot be told as plain data."""


def as_plain(value: Any) -> Any:
    """A value as lists, dicts, numbers and strings, from which ``from_plain`` makes the same again.

    Raises:
        NotPlainError: if there is something else in it than these, arrays, generators, queues and moments.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufSU":
        return {"__array__": value.tolist(), "dtype": value.dtype.str, "shape": list(value.shape)} | (
            {"scalar": True} if isinstance(value, np.generic) else {}
        )
    if type(value) is list:
        return [as_plain(item) for item in value]
    if type(value) is tuple:
        return {"__tuple__": [as_plain(item) for item in value]}
    if type(value) is dict and all(isinstance(key, str) for key in value):
        return {key: as_plain(item) for key, item in value.items()}
    if isinstance(value, deque):
        return {"__queue__": [as_plain(item) for item in value], "longest": value.maxlen}
    if type(value) is RunningMeanStd:
        return {"__moments__": as_plain(vars(value))}
    if isinstance(value, np.random.Generator):
        return {"__generator__": get_stream_state(value)}
    raise NotPlainError(type(value).__name__)


def from_plain(value: Any) -> Any:
    """The value that ``as_plain`` was given."""
    if isinstance(value, list):
        return [from_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "__array__" in value:
        array = np.array(value["__array__"], value["dtype"]).reshape(value["shape"])
        return array[()] if value.get("scalar") else array
    if "__tuple__" in value:
        return tuple(from_plain(value["__tuple__"]))
    if "__queue__" in value:
        return deque(from_plain(value["__queue__"]), value["longest"])
    if "__moments__" in value:
        moments = RunningMeanStd()  # type: ignore[no-untyped-call]
        vars(moments).update(from_plain(value["__moments__"]))
        return moments
    if "__generator__" in value:
        return restore_stream(value["__generator__"])
    return {key: from_plain(item) for key, item in value.items()}
