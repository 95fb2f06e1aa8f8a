"""The state of envs and wrappers that other packages made: who tells it, by what the env is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

# Modules of this package by the class that an env or a wrapper is, or derives from.
_FAMILIES = {
    "gymnasium.envs.classic_control.acrobot.AcrobotEnv": "classic",
    "gymnasium.envs.classic_control.cartpole.CartPoleEnv": "classic",
    "gymnasium.envs.classic_control.continuous_mountain_car.Continuous_MountainCarEnv": "classic",
    "gymnasium.envs.classic_control.mountain_car.MountainCarEnv": "classic",
    "gymnasium.envs.classic_control.pendulum.PendulumEnv": "classic",
    "gymnasium.envs.mujoco.mujoco_env.MujocoEnv": "mujoco",
    "gymnasium.envs.box2d.lunar_lander.LunarLander": "replay",
    "minigrid.minigrid_env.MiniGridEnv": "replay",
    "metaworld.wrappers.PseudoRandomTaskSelectWrapper": "metaworld",
    "metaworld.wrappers.RandomTaskSelectWrapper": "metaworld",
}
_REPLAYED = ("gymnasium.envs.box2d.", "minigrid.")


@dataclass(frozen=True)
class Teller:
    """How the state of one env or wrapper is told and taken."""

    get_state: Callable[[], Any]  # gives what ``plain.as_plain`` takes
    set_state: Callable[[Any], None]
    own: bool  # by methods of the env's own


def teller_of(env: Any) -> Teller | None:
    """Who tells the state of an env, by itself, or of a wrapper: its own methods or its family; None if nobody does."""
    if _has_own(env):
        return Teller(env.get_state, env.set_state, own=True)
    name = family_of(env)
    if name is None:
        return None
    family: Any = import_module(f"{__name__}.{name}")
    return Teller(lambda: family.get_state(env), lambda state: family.set_state(env, state), own=False)


def family_of(env: Any) -> str | None:
    """The module of this package that knows an env, or a wrapper; None if none does."""
    kinds = (f"{kind.__module__}.{kind.__name__}" for kind in type(env).__mro__)
    family = next((_FAMILIES[kind] for kind in kinds if kind in _FAMILIES), None)
    # A class of someone else's may remember more from one episode to the next than the stream.
    return None if family == "replay" and not type(env).__module__.startswith(_REPLAYED) else family


def _has_own(env: Any) -> bool:
    """Whether an env has both methods; ``MujocoEnv.set_state(qpos, qvel)`` is no such one."""
    if not (hasattr(env, "get_state") and hasattr(env, "set_state")):
        return False
    return getattr(env.set_state, "__module__", None) != "gymnasium.envs.mujoco.mujoco_env"
