"""What envs hand out, made into values of our own: numbers, flags, and infos that no later step changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varshare_pl.errors import ConfigError

# The keys that vector envs add to an info; an env's own under these names would be taken for theirs.
VECTOR_KEYS = ("final_obs", "final_info")
_UNCHANGING = frozenset((float, int, bool, str, type(None), np.float64, np.float32, np.bool_))


def as_number(value: Any) -> float | None:
    """A bool, a number of Python or NumPy, or an array that holds one, as a float; None for all else."""
    if type(value) in (float, int, bool):
        return float(value)
    try:
        array = np.asarray(value)
    except Exception:  # whatever a foreign object raises when it is asked for an array
        return None
    return float(array.item()) if array.size == 1 and array.dtype.kind in "biuf" else None


def as_flag(value: Any) -> bool | None:
    """A bool, or a number that is 0 or 1; None for all else."""
    if type(value) is bool:
        return value
    number = as_number(value)
    return bool(number) if number in (0.0, 1.0) else None


def is_vector_key(key: Any) -> bool:
    """Whether an info's key is one that a vector env adds, or hides as a mask."""
    return not isinstance(key, str) or key.startswith("_") or key in VECTOR_KEYS


def kept(value: Any) -> Any:
    """A copy of the arrays and containers in an info; an env may change its own in place."""
    if type(value) in _UNCHANGING:
        return value
    if isinstance(value, Mapping):
        return {key: kept(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [kept(item) for item in value]
    return value.copy() if isinstance(value, np.ndarray) else value


def short(value: Any) -> str:
    """A value as a short text of one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


class VectorInfos:
    """How a vector env puts its envs' infos together, whatever each of them tells; a base before Gymnasium's class.

    Gymnasium's takes the type of the first value for all: 1 and then 0.7 give 1 and 0, and a None among numbers raises.
    Here numbers of several types are float64, and what does not fit into one array of numbers is an array of objects.
    """

    num_envs: int

    def _add_info(self, vector_infos: dict[str, Any], env_info: dict[str, Any], env_num: int) -> dict[str, Any]:
        for key, value in env_info.items():
            mask = vector_infos.setdefault(f"_{key}", np.zeros(self.num_envs, np.bool_))
            there = vector_infos.get(key)
            if isinstance(value, dict) and (there is None or isinstance(there, dict)):
                vector_infos[key] = self._add_info(there or {}, value, env_num)
            else:
                numbers = None if key == "final_obs" else _numbers(value)
                vector_infos[key] = array = _room_for(there, mask, numbers)
                array[env_num] = value
            mask[env_num] = True
        return vector_infos


def _numbers(value: Any) -> NDArray[Any] | None:
    """A number or an array of numbers as an array; None for all else."""
    array = np.asarray(value) if isinstance(value, bool | int | float | np.generic | np.ndarray) else None
    return array if array is not None and array.dtype.kind in "biuf" else None


def _room_for(there: Any, mask: NDArray[np.bool_], numbers: NDArray[Any] | None) -> NDArray[Any]:
    """An array over all envs with what is there of those in the mask, into which one more value fits."""
    if there is None and numbers is not None:
        return np.zeros((len(mask), *numbers.shape), numbers.dtype)
    if numbers is not None and isinstance(there, np.ndarray) and there.dtype != object:
        if there.shape[1:] == numbers.shape:
            return there if there.dtype == numbers.dtype else there.astype(np.float64)
    elif isinstance(there, np.ndarray) and there.dtype == object:
        return there
    objects = np.full(len(mask), None, object)
    for i in np.flatnonzero(mask):
        objects[i] = _of_env(there, i)
    return objects


def _of_env(there: Any, i: np.intp) -> Any:
    """What one env told, out of what was put together."""
    if isinstance(there, dict):
        return {key: _of_env(value, i) for key, value in there.items() if f"_{key}" in there and there[f"_{key}"][i]}
    return there[i]


def numbers_of_step(values: Any, told: NDArray[np.bool_]) -> NDArray[np.float64]:
    """A number of the infos of a step as float64 (N,), NaN where an env tells none or what is no number.

    Args:
        values: What the vector env made of those of its envs.
        told: (N,) where an env told one.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf" and values.ndim == 1:
        return np.where(told, values, np.nan)
    numbers = np.full(len(told), np.nan)
    for i in np.flatnonzero(told):
        number = as_number(_of_env(values, i))
        numbers[i] = np.nan if number is None else number
    return numbers


def final_numbers(
    info: Mapping[str, Any], name: str, done: NDArray[np.bool_], where: Callable[[int], str]
) -> NDArray[np.float64]:
    """A number out of the last info of the episodes that ended in a step, one for each env that is done.

    Args:
        info: As the vector env's ``step`` returned it.
        name: Of the number.
        done: (N,) where an episode ended.
        where: Names the env of an index, its task and its step.

    Raises:
        ConfigError: if an env that is done does not tell it, or tells what is no number.
    """
    # Under SAME_STEP the outer info belongs to the next episode already; the last step's stands in final_info.
    final = info.get("final_info", {})
    if name not in final or not final[f"_{name}"][done].all():
        raise ConfigError(
            f"data.info_metrics: {name!r} is not in the env's info at the end of an episode; it has: "
            + (", ".join(sorted(k for k in final if not k.startswith("_"))) or "nothing")
        )
    numbers = np.empty(int(done.sum()))
    for k, i in enumerate(np.flatnonzero(done)):
        value = _of_env(final[name], i)
        number = as_number(value)
        if number is None:
            raise ConfigError(
                f"data.info_metrics: {name!r} is {short(value)} in {where(int(i))}; a number, or an array of one, is "
                "allowed"
            )
        numbers[k] = number
    return numbers
