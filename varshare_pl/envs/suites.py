"""The suites that ship, and the one way to get any suite."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

from varshare_pl.envs.cartpole import (
    cartpole,
    complex_cartpole,
    identical_cartpole,
    mirrored_cartpole,
    multi_task_cartpole,
)
from varshare_pl.envs.conflict_bandit import conflict_bandit
from varshare_pl.envs.custom import custom_suite
from varshare_pl.envs.mountain_car import mountain_car_ladder
from varshare_pl.envs.pendulum import pendulum_family
from varshare_pl.envs.point_mass import point_mass_clusters, point_mass_dial, point_mass_goals, point_mass_outlier
from varshare_pl.envs.success import SuccessMeasure
from varshare_pl.envs.tasks import GymTask, TaskSuite
from varshare_pl.errors import ConfigError

Factory = Callable[..., TaskSuite]

# A suite's name and the function that makes it; the function's keyword arguments are the suite's options.
# "module:function" is imported when it is asked for, as suites that need other packages are.
_FACTORIES: dict[str, Factory | str] = {
    "CartPole": cartpole,
    "ComplexCartPole": complex_cartpole,
    "IdenticalCartPole": identical_cartpole,
    "MultiTaskCartPole": multi_task_cartpole,
    "MirroredCartPole": mirrored_cartpole,
    "ConflictBandit": conflict_bandit,
    "PendulumFamily": pendulum_family,
    "PointMassDial": point_mass_dial,
    "PointMassClusters": point_mass_clusters,
    "PointMassOutlier": point_mass_outlier,
    "PointMassGoals": point_mass_goals,
    "MountainCarLadder": mountain_car_ladder,
    "MiniGrid": "varshare_pl.envs.minigrid:minigrid",
    "LunarLander": "varshare_pl.envs.lunar_lander:lunar_lander",
    "MetaWorld": "varshare_pl.envs.metaworld:metaworld",
    "CheetahFamily": "varshare_pl.envs.mujoco:mujoco_cheetah_family",
    "HopperFamily": "varshare_pl.envs.mujoco:mujoco_hopper_family",
}

SUITES: tuple[str, ...] = tuple(_FACTORIES)  # the names of all suites that ship
PHYSICS_SUITES = tuple(name for name in SUITES if callable(_FACTORIES[name]))  # those with physics of their own


def get_suite(
    suite: str | Sequence[GymTask | dict[str, Any] | str] | Mapping[str, Any] | TaskSuite,
    *,
    name: str | None = None,
    solved_return: float | None = None,
) -> TaskSuite:
    """Get a suite by its name, or from Gymnasium tasks.

    Args:
        suite: a name of ``SUITES``, or a dict of one and its options; a list of tasks for a custom suite, or a dict of
            tasks and settings; a suite that is already one.
        name: replaces the suite's name.
        solved_return: replaces the return from which on a task counts as solved.

    Raises:
        ConfigError: for an unknown name or option, or tasks that cannot be made or do not fit together.
    """
    if isinstance(suite, TaskSuite):
        found = suite
    elif isinstance(suite, str):
        found = _shipped(suite, {})
    elif isinstance(suite, Mapping) and "tasks" not in suite:
        found = _shipped(suite.get("name"), {key: value for key, value in suite.items() if key != "name"})
    else:
        found = custom_suite(suite)
    if name is not None:
        found = dataclasses.replace(found, name=name)
    if solved_return is not None:
        if found.success.info is not None:
            raise ConfigError(
                f"solved_return={solved_return}: {found.name}'s success is the info's {found.success.info!r}, no return"
            )
        found = dataclasses.replace(found, success=SuccessMeasure(solved=float(solved_return)))
    return found


def _shipped(name: Any, options: Mapping[str, Any]) -> TaskSuite:
    if name not in SUITES:
        close = difflib.get_close_matches(str(name), SUITES, n=1, cutoff=0.5)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        what = f"suite={name!r}: unknown{hint}" if name is not None else "suite: has neither tasks nor name"
        raise ConfigError(f"{what}; allowed: {', '.join(SUITES)}, or a list of Gymnasium tasks")
    factory = _factory(name)
    hints = get_type_hints(factory)
    allowed = {option: hints[option] for option in inspect.signature(factory).parameters}
    for option, value in options.items():
        if option not in allowed:
            raise ConfigError(
                f"suite.{option}: unknown option of {name}; allowed: {', '.join(allowed) or 'none'}"
                + ("; a suite of your own has the key tasks" if option in ("wrappers", "success", "anchors") else "")
            )
        _check_option(f"suite.{option}", value, allowed[option])
    return factory(**options)


def _factory(name: str) -> Factory:
    factory = _FACTORIES[name]
    if not isinstance(factory, str):
        return factory
    module, _, function = factory.partition(":")
    found: Factory = getattr(importlib.import_module(module), function)
    return found


def _check_option(key: str, value: Any, kind: Any) -> None:
    """See that a value is of an option's type: bool, int, float, str or a Literal."""
    if get_origin(kind) is Literal:
        fits, allowed = value in get_args(kind), ", ".join(map(str, get_args(kind)))
    elif kind is bool:
        fits, allowed = isinstance(value, bool), "true, false"
    elif kind is int:
        fits, allowed = isinstance(value, int) and not isinstance(value, bool), "an integer"
    elif kind is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        allowed = "a finite number"
    else:
        fits, allowed = isinstance(value, str), "a text"
    if not fits:
        raise ConfigError(f"{key}={value!r}: allowed: {allowed}")
