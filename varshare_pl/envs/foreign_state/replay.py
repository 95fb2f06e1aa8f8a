"""Envs whose physics cannot be read out (Box2D's contacts) or is a web of objects (MiniGrid's grid).

Each reset makes their world anew from the random stream, so the start of the stream and the actions since then lead to
the same state again, bit for bit. (BipedalWalker keeps its Box2D world over a reset, so it is not of this family.)
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from varshare_pl.envs.foreign_state import family_of
from varshare_pl.envs.seeding import get_stream_state, new_stream, restore_stream


def get_state(_env: gym.Env[Any, Any]) -> dict[str, Any]:
    """Nothing: ``Replayed`` around the env tells it."""
    return {}


def set_state(_env: gym.Env[Any, Any], _state: dict[str, Any]) -> None:
    """Nothing is left to do."""


def replayed(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    """The env inside all wrappers, with ``Replayed`` around it where it is of this family."""
    return Replayed(env) if family_of(env) == "replay" else env


class Replayed(gym.Wrapper[Any, Any, Any, Any]):
    """Remembers how an env's episode began and what was done since.

    A wrapper around it may draw from the env's stream between two steps. Where the stream then stood is remembered too.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self._stream: dict[str, Any] = {}
        self._options: dict[str, Any] | None = None
        self._actions: list[Any] = []
        self._moved: dict[str, Any] = {}  # by the number of an action, the stream before it, where others drew from it
        self._left: Any = None  # the stream after the latest call

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.env.unwrapped.np_random = new_stream(seed)  # as reset(seed=…) does
        self._stream, self._options = get_stream_state(self.env.unwrapped.np_random), options
        self._actions, self._moved = [], {}
        first = self.env.reset(options=options)
        self._left = self._bits()
        return first

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        if self._bits() != self._left:
            self._moved[str(len(self._actions))] = get_stream_state(self.env.unwrapped.np_random)
        self._actions.append(action.copy() if isinstance(action, np.ndarray) else action)
        result = self.env.step(action)
        self._left = self._bits()
        return result

    def _bits(self) -> Any:
        return self.env.unwrapped.np_random.bit_generator.state

    def get_state(self) -> dict[str, Any]:
        """The stream before the episode's reset, its options, the actions, and the stream where others moved it."""
        return {"stream": self._stream, "options": self._options, "actions": self._actions, "moved": self._moved}

    def set_state(self, state: dict[str, Any]) -> None:
        """Reset and act again."""
        self.env.unwrapped.np_random = restore_stream(state["stream"])
        self.reset(options=state["options"])
        for number, action in enumerate(state["actions"]):
            if str(number) in state["moved"]:
                self.env.unwrapped.np_random = restore_stream(state["moved"][str(number)])
            self.step(action)
