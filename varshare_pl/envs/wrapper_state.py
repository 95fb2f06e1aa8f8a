"""The state of an env's wrappers as plain data: what they remember from one step, or one episode, to the next."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import wrappers as known
from gymnasium.spaces import Space
from gymnasium.wrappers.utils import RunningMeanStd

from varshare_pl.envs.actions import CommonActions
from varshare_pl.envs.seeding import get_stream_state, restore_stream
from varshare_pl.envs.tasks import CommonBox, OwnObservations

# What Gymnasium's wrappers remember, by attribute. Of those that are not here the state is not known.
_REMEMBERED: dict[type, tuple[str, ...]] = {
    known.TimeLimit: ("_elapsed_steps",),
    known.Autoreset: ("autoreset",),
    known.RecordEpisodeStatistics: (
        *("episode_count", "episode_returns", "episode_lengths"),
        *("time_queue", "return_queue", "length_queue"),
    ),
    known.TimeAwareObservation: ("timesteps",),
    known.FrameStackObservation: ("obs_queue", "padding_value"),
    known.DelayObservation: ("observation_queue",),
    known.NormalizeObservation: ("obs_rms", "_update_running_mean"),
    known.NormalizeReward: ("return_rms", "discounted_reward", "_update_running_mean"),
    known.StickyAction: ("last_action", "is_sticky_actions", "num_repeats", "repeats_taken"),
    **dict.fromkeys(
        (
            *(CommonActions, CommonBox, OwnObservations),
            *(known.OrderEnforcing, known.PassiveEnvChecker, known.RepeatAction),
            *(known.ClipAction, known.RescaleAction, known.DiscretizeAction, known.ClipReward),
            *(known.FlattenObservation, known.FilterObservation, known.ReshapeObservation, known.RescaleObservation),
            *(known.DtypeObservation, known.DiscretizeObservation, known.GrayscaleObservation),
            *(known.ResizeObservation, known.MaxAndSkipObservation),
        ),
        (),
    ),
}
# Attributes of every wrapper that say how it was made, or what is inside it.
_MADE_SO = frozenset({"env", "_action_space", "_observation_space", "_metadata", "_cached_spec", "_saved_kwargs"})


class NotPlainError(TypeError):
    """A value that cannot be told as plain data."""


def layers(env: gym.Env[Any, Any]) -> Iterator[gym.Env[Any, Any]]:
    """An env's wrappers, from the outermost on, and the env inside them."""
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env
    yield env


def get_wrapper_states(env: gym.Env[Any, Any]) -> list[Any]:
    """The state of each wrapper that has any, from the outermost on; None for one whose state is not known.

    That of a wrapper with ``get_state`` and ``set_state`` is what these tell, that of any other class outside Gymnasium
    its attributes, if all are plain data, arrays or generators.
    """
    return [_state(wrapper) for wrapper in _stateful(env)]


def set_wrapper_states(env: gym.Env[Any, Any], states: list[Any]) -> None:
    """Bring the wrappers to where ``get_wrapper_states`` was called; one whose state is None stays as it is."""
    for wrapper, state in zip(_stateful(env), states, strict=True):
        if state is None:
            continue
        if can_tell(wrapper):
            wrapper.set_state(from_plain(state))
        else:
            for name, value in state.items():
                setattr(wrapper, name, from_plain(value))


def can_tell(env: Any) -> bool:
    """Whether an env or a wrapper has methods of its own to tell and to take its state."""
    return hasattr(env, "get_state") and hasattr(env, "set_state")


def _stateful(env: gym.Env[Any, Any]) -> Iterator[Any]:
    return (layer for layer in layers(env) if isinstance(layer, gym.Wrapper) and _REMEMBERED.get(type(layer)) != ())


def _state(wrapper: Any) -> Any:
    names = _REMEMBERED.get(type(wrapper))
    try:
        if can_tell(wrapper):
            return as_plain(wrapper.get_state())
        if names is None:
            if type(wrapper).__module__.startswith("gymnasium."):
                return None
            held = vars(wrapper).items()
            names = tuple(name for name, value in held if name not in _MADE_SO and not isinstance(value, Space))
        return {name: as_plain(getattr(wrapper, name)) for name in names}
    except NotPlainError:
        return None


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
