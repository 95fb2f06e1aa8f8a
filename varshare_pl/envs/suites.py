"""The built-in suites, and the one way to get any suite."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from varshare_pl.envs.custom import custom_suite
from varshare_pl.envs.physics.bandit import ConflictBandit
from varshare_pl.envs.physics.cartpole import CartPole, CartPolePhysics
from varshare_pl.envs.physics.dynamics import Dynamics
from varshare_pl.envs.success import SuccessMeasure
from varshare_pl.envs.tasks import GymTask, TaskSpec, TaskSuite
from varshare_pl.errors import ConfigError

VERSION = 0


@dataclass(frozen=True)
class _BuiltIn:
    task_names: tuple[str, ...]
    dynamics: Callable[[], Dynamics]
    solved_return: float


def _cartpoles(tasks: Mapping[str, CartPolePhysics]) -> _BuiltIn:
    return _BuiltIn(tuple(tasks), lambda: CartPole(list(tasks.values())), solved_return=475.0)


_BASE = CartPolePhysics()

_BUILT_IN: dict[str, _BuiltIn] = {
    "CartPole": _cartpoles({"baseline": _BASE}),
    "ComplexCartPole": _cartpoles(
        {
            "baseline": _BASE,
            "short light pole": CartPolePhysics(pole_mass=0.05, half_length=0.25),
            "long heavy pole": CartPolePhysics(pole_mass=0.2, half_length=1.0),
            "low gravity": CartPolePhysics(gravity=6.0),
            "tight limits": CartPolePhysics(x_limit=1.5, angle_limit=8.0),
        }
    ),
    "IdenticalCartPole": _cartpoles({f"copy {k}": _BASE for k in range(5)}),
    "MultiTaskCartPole": _cartpoles(
        {
            "baseline": _BASE,
            "high gravity": CartPolePhysics(gravity=12.0),
            "heavy cart": CartPolePhysics(cart_mass=2.0),
            "heavy pole": CartPolePhysics(pole_mass=0.5),
            "low gravity": CartPolePhysics(gravity=5.0),
            "long pole": CartPolePhysics(half_length=1.0),
        }
    ),
    "MirroredCartPole": _cartpoles({"baseline": _BASE, "swapped actions": CartPolePhysics(swapped=True)}),
    "ConflictBandit": _BuiltIn(tuple(f"action {k} is right" for k in range(5)), ConflictBandit, solved_return=0.95),
}

SUITES: tuple[str, ...] = tuple(_BUILT_IN)  # the names of the built-in suites

# Suites of other packages' envs, which are extras: the function that makes each.
FOREIGN: dict[str, str] = {
    "MetaWorld": "varshare_pl.envs.metaworld:metaworld",
    "CheetahFamily": "varshare_pl.envs.mujoco:mujoco_cheetah_family",
    "HopperFamily": "varshare_pl.envs.mujoco:mujoco_hopper_family",
}


def env_id(suite: str) -> str:
    """The Gymnasium id of a built-in suite."""
    return f"varshare_pl/{suite}-v{VERSION}"


def _foreign(name: str) -> TaskSuite:
    module, function = FOREIGN[name].split(":")
    suite: TaskSuite = getattr(import_module(module), function)()
    return suite


def _built_in(name: str) -> TaskSuite:
    if name in FOREIGN:
        return _foreign(name)
    if name not in _BUILT_IN:
        names = (*SUITES, *FOREIGN)
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ConfigError(f"suite={name!r}: unknown{hint}; allowed: {', '.join(names)}, or a list of Gymnasium tasks")
    built_in = _BUILT_IN[name]
    dynamics = built_in.dynamics()
    return TaskSuite(
        name=name,
        tasks=tuple(TaskSpec(task_name, env_id(name), {"task": k}) for k, task_name in enumerate(built_in.task_names)),
        observation_space=dynamics.observation_space,
        action_space=dynamics.action_space,
        success=SuccessMeasure(solved=built_in.solved_return),
        version=VERSION,
        dynamics=dynamics,
    )


def get_suite(
    suite: str | Sequence[GymTask | dict[str, Any] | str] | TaskSuite,
    *,
    name: str | None = None,
    solved_return: float | None = None,
) -> TaskSuite:
    """Get a suite by its name, or from a list of Gymnasium tasks.

    Args:
        suite: a name of ``SUITES``, a list of tasks for a custom suite, or a suite that is already one.
        name: replaces the suite's name.
        solved_return: replaces the return from which on a task counts as solved.

    Raises:
        ConfigError: for an unknown name, or tasks that cannot be made or do not fit together.
    """
    if isinstance(suite, TaskSuite):
        found = suite
    elif isinstance(suite, str):
        found = _built_in(suite)
    else:
        found = custom_suite(suite)
    if name is not None:
        found = dataclasses.replace(found, name=name)
    if solved_return is not None:
        found = dataclasses.replace(found, success=SuccessMeasure(solved=float(solved_return)))
    return found
