"""The state of an env's wrappers as plain data: what they remember from one step, or one episode, to the next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
from gymnasium import wrappers as known
from gymnasium.spaces import Space

from varshare_pl.envs.actions import CommonActions
from varshare_pl.envs.foreign_state import teller_of
from varshare_pl.envs.plain import NotPlainError, as_plain, from_plain
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
        teller = teller_of(wrapper)
        if teller is not None:
            teller.set_state(from_plain(state))
        else:
            for name, value in state.items():
                setattr(wrapper, name, from_plain(value))


def _stateful(env: gym.Env[Any, Any]) -> Iterator[Any]:
    return (layer for layer in layers(env) if isinstance(layer, gym.Wrapper) and _REMEMBERED.get(type(layer)) != ())


def _state(wrapper: Any) -> Any:
    names = _REMEMBERED.get(type(wrapper))
    teller = teller_of(wrapper)
    try:
        if teller is not None:
            return as_plain(teller.get_state())
        if names is None:
            if type(wrapper).__module__.startswith("gymnasium."):
                return None
            held = vars(wrapper).items()
            names = tuple(name for name, value in held if name not in _MADE_SO and not isinstance(value, Space))
        return {name: as_plain(getattr(wrapper, name)) for name in names}
    except NotPlainError:
        return None
