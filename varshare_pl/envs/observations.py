"""Observation spaces of every kind as one Box of numbers, which all tasks of a suite share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Space, flatten, flatten_space
from numpy.typing import NDArray

from varshare_pl.errors import ConfigError

EXACT = 2.0**24  # up to here float32 holds every integer


def as_box(space: Space[Any]) -> Box:
    """A space as a Box of at least one axis: itself, or what Gymnasium's ``flatten_space`` makes of it.

    Raises:
        ConfigError: if there is no such Box; its text says what is observed and what is allowed.
    """
    if isinstance(space, Box) and space.shape:
        box: Space[Any] = space
    elif not space.is_np_flattenable:
        raise ConfigError(f"observes {space}; allowed: Box, Discrete, MultiDiscrete, MultiBinary, and a Dict or Tuple")
    else:
        try:
            box = flatten_space(space)
        except NotImplementedError:
            raise ConfigError(f"observes {space}, which cannot be flattened; a wrapper can choose a part") from None
    assert isinstance(box, Box)
    if 0 in box.shape:
        raise ConfigError(f"observes a Box of shape {box.shape}; allowed: one without an axis of length 0")
    return box


def common_box(boxes: Sequence[Box], pad: bool = False) -> Box:
    """The one Box of all tasks: of uint8 where all observe in it, else of float64 where one needs it, else float32.

    Args:
        boxes: Of the tasks.
        pad: Whether shorter vectors are filled up with zeros.

    Raises:
        ConfigError: if their shapes differ and may not, or cannot be padded.
    """
    shape = _common_shape(boxes, pad)
    if all(box.dtype == np.uint8 for box in boxes):
        dtype: Any = np.uint8
    else:
        dtype = np.float64 if any(map(_needs_float64, boxes)) else np.float32
    with np.errstate(over="ignore"):  # a bound beyond the type becomes infinite
        low = np.min([_padded(box.low, shape) for box in boxes], axis=0).astype(dtype)
        high = np.max([_padded(box.high, shape) for box in boxes], axis=0).astype(dtype)
    return Box(low, high, dtype=dtype)


def fitted(observation: Any, own: Space[Any], box: Box) -> NDArray[Any]:
    """An observation of an env, from its own space, as the suite's Box has it."""
    array = np.asarray(observation if isinstance(own, Box) and own.shape else flatten(own, observation))
    if array.ndim == len(box.shape) == 1:
        array = _padded(array, box.shape)
    return array if box.dtype.kind == "u" else np.asarray(array, dtype=box.dtype)


def as_dtype(observation: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A copy of an observation in a type.

    Raises:
        ValueError: if it is no array of numbers, or an integer type does not hold them.
        TypeError: the same.
    """
    if type(observation) is np.ndarray and observation.dtype == dtype:
        return observation.copy()
    with np.errstate(over="ignore", invalid="ignore"):  # what a float does not hold becomes infinite
        copy: NDArray[Any] = np.array(observation, dtype) if dtype.kind == "f" else np.array(observation).astype(dtype)
    if dtype.kind != "f" and not np.array_equal(copy, observation):
        raise ValueError(f"{dtype} does not hold it")
    return copy


def _common_shape(boxes: Sequence[Box], pad: bool) -> tuple[int, ...]:
    first = boxes[0].shape
    for k, box in enumerate(boxes):
        if box.shape != first and not pad:
            raise ConfigError(
                f"suite[{k}]: observations have shape {box.shape}, those of suite[0] {first}; vectors of several "
                "lengths need pad: true"
            )
        if box.shape != first and not len(box.shape) == len(first) == 1:
            raise ConfigError(
                f"suite[{k}]: observations have shape {box.shape}, those of suite[0] {first}; only vectors can be "
                "padded"
            )
    return max(box.shape for box in boxes)


def _padded(array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """A vector with zeros behind it; what has the shape, or is longer, as it is."""
    missing = shape[0] - len(array)
    return array if array.shape == shape or missing < 0 else np.pad(array, (0, missing))


def _needs_float64(box: Box) -> bool:
    """Whether float32 would lose some of what is observed."""
    if box.dtype.kind == "f":
        return box.dtype.itemsize > 4
    bounds = np.array([box.low, box.high], np.float64)
    return bool((abs(bounds) > EXACT).any())
