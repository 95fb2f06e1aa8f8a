"""The spaces of an env draw from one stream of its own, so that ``space.sample()`` inside an env is reproducible.

Gymnasium leaves a space's generator to chance until someone seeds it, and a space that stands in a class is shared by
all its envs.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Space

from varshare_pl.envs.wrapper_state import layers


def own_spaces(env: gym.Env[Any, Any]) -> None:
    """Give an env and its wrappers copies of all spaces among their attributes; those that are one stay one."""
    memo: dict[int, Any] = {}
    for layer in layers(env):
        for name, value in _attributes(layer).items():
            vars(layer)[name] = copy.deepcopy(value, memo)


def draw_from(env: gym.Env[Any, Any], stream: np.random.Generator) -> None:
    """Have all spaces of an env and its wrappers draw from a stream."""
    for layer in layers(env):
        for value in _attributes(layer).values():
            for space in _nested(value):
                space._np_random = stream


def _attributes(layer: gym.Env[Any, Any]) -> dict[str, Any]:
    """The attributes, of the object or of its class, that are spaces or collections of spaces."""
    names = [name for kind in type(layer).__mro__ for name, value in vars(kind).items() if _is_spaces(value)]
    values = {name: vars(layer).get(name, getattr(type(layer), name)) for name in names} | vars(layer)
    return {name: value for name, value in values.items() if _is_spaces(value)}


def _is_spaces(value: Any) -> bool:
    return isinstance(value, Space) or (bool(_items(value)) and all(isinstance(item, Space) for item in _items(value)))


def _items(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else []


def _nested(value: Any) -> Iterator[Space[Any]]:
    """A space with all those inside it, or all of a collection."""
    inside: Iterable[Any] = _items(value)
    if isinstance(value, Space):
        yield value
        inside = [item for held in vars(value).values() for item in (held, *_items(held))]
    for item in inside:
        if isinstance(item, Space):
            yield from _nested(item)
