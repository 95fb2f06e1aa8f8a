"""Suites made of any Gymnasium environments."""

from __future__ import annotations

import dataclasses
import pickle
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete, Space

from varshare_pl.envs.success import SuccessMeasure
from varshare_pl.envs.tasks import GymTask, TaskSpec, TaskSuite
from varshare_pl.errors import ConfigError

_FIELDS = tuple(f.name for f in dataclasses.fields(GymTask))


def custom_suite(entries: Sequence[GymTask | dict[str, Any] | str]) -> TaskSuite:
    """Build a suite from a list of tasks; every kind of env is made once to look at its spaces.

    Raises:
        ConfigError: if a task cannot be made or the tasks' spaces do not fit together.
    """
    if not isinstance(entries, Sequence) or not entries:
        raise ConfigError(f"suite={entries!r}: must be a name or a list of at least one Gymnasium task")
    tasks = [_parse(k, entry) for k, entry in enumerate(entries)]
    specs = tuple(
        TaskSpec(name, task.id, dict(task.kwargs), dict(task.attributes))
        for name, task in zip(_names(tasks), tasks, strict=True)
    )
    probes = _probes(specs)
    thresholds = {threshold for _, _, threshold in probes}
    return TaskSuite(
        name=_suite_name(tasks),
        tasks=specs,
        observation_space=_common_box([obs for obs, _, _ in probes]),
        action_space=_common_actions([actions for _, actions, _ in probes]),
        success=SuccessMeasure(solved=thresholds.pop() if len(thresholds) == 1 else None),
    )


def _parse(k: int, entry: Any) -> GymTask:
    if isinstance(entry, str):
        entry = {"id": entry}
    if isinstance(entry, Mapping):
        unknown = [key for key in entry if key not in _FIELDS]
        if unknown:
            raise ConfigError(f"suite[{k}].{unknown[0]}: unknown key; allowed: {', '.join(_FIELDS)}")
        if "id" not in entry:
            raise ConfigError(f"suite[{k}].id: missing; give a Gymnasium id")
        entry = GymTask(**entry)
    if not isinstance(entry, GymTask):
        raise ConfigError(f"suite[{k}]={entry!r}: must be a GymTask or a dict with the keys {', '.join(_FIELDS)}")
    if not isinstance(entry.id, str):
        raise ConfigError(f"suite[{k}].id={entry.id!r}: must be a Gymnasium id, a string")
    _check_name(k, entry.name)
    for key in ("kwargs", "attributes"):
        value = getattr(entry, key)
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            raise ConfigError(f"suite[{k}].{key}={value!r}: must be a dict with strings as keys")
    return entry


def _check_name(k: int, name: Any) -> None:
    """See that a name is a text with something to see, which a file in UTF-8 can hold."""
    if name is not None and not isinstance(name, str):
        raise ConfigError(f"suite[{k}].name: {name!r} is not allowed; a text is, in YAML between quotes")
    if name is not None and not ((name.strip() and name.isprintable()) or any(map(str.isalnum, name))):
        raise ConfigError(f"suite[{k}].name: {name!r} is not allowed; a text with something to see is")
    if name is not None and any("\ud800" <= sign <= "\udfff" for sign in name):
        raise ConfigError(f"suite[{k}].name: {name!r} is not allowed; a text of whole characters is")


def _names(tasks: Sequence[GymTask]) -> list[str]:
    names: list[str] = []
    for k, task in enumerate(tasks):
        changes = [f"{key}={value}" for key, value in {**task.kwargs, **task.attributes}.items()]
        name = task.name if task.name is not None else " ".join([task.id, *changes])
        if name in names:
            if task.name is not None:
                raise ConfigError(f"suite[{k}].name={name!r}: another task has that name; names must differ")
            name = f"{name} #{k}"
        names.append(name)
    return names


def _suite_name(tasks: Sequence[GymTask]) -> str:
    ids = list(dict.fromkeys(task.id for task in tasks))
    name = "+".join(ids) if len(ids) <= 3 else f"{ids[0]}+{len(ids) - 1}-more"
    return re.sub(r"[^\w.+-]+", "_", name)


def _probes(specs: Sequence[TaskSpec]) -> list[tuple[Box, Discrete, float | None]]:
    """What each task's env has; those that are made the same way but for the task's name are made once."""
    found: dict[Any, tuple[Box, Discrete, float | None]] = {}
    keys = [_key(k, spec) for k, spec in enumerate(specs)]
    for k, spec in enumerate(specs):
        if keys[k] not in found:
            found[keys[k]] = _probe(k, spec)
    return [found[key] for key in keys]


def _key(k: int, spec: TaskSpec) -> bytes | int:
    """The same for tasks whose envs are made the same way; its place for one that cannot be compared."""
    try:
        return pickle.dumps(dataclasses.replace(spec, name=""))
    except Exception:  # whatever a foreign object raises
        return k


def _probe(k: int, spec: TaskSpec) -> tuple[Box, Discrete, float | None]:
    """Make the env once; return its spaces and its reward threshold."""
    try:
        env = spec.make()
    except ConfigError as error:
        raise ConfigError(f"suite[{k}].{error}") from error
    except Exception as error:  # whatever a foreign constructor raises, the user sees the entry that is to blame
        text = " ".join(str(error).split())
        raise ConfigError(f"suite[{k}]: cannot make {spec.env_id!r} with {spec.kwargs}: {text}") from error
    try:
        threshold = None if env.spec is None else env.spec.reward_threshold
        return _check_obs(k, spec, env.observation_space), _check_actions(k, spec, env.action_space), threshold
    finally:
        env.close()


def _check_obs(k: int, spec: TaskSpec, space: Space[Any]) -> Box:
    if not isinstance(space, Box) or not np.issubdtype(space.dtype, np.floating):
        raise ConfigError(f"suite[{k}]: {spec.env_id} observes {space}; allowed: a Box of floats")
    if not space.shape or 0 in space.shape:
        raise ConfigError(
            f"suite[{k}]: {spec.env_id} observes a Box of shape {space.shape}; allowed: one of at least one axis, none "
            "of length 0"
        )
    return space


def _check_actions(k: int, spec: TaskSpec, space: Space[Any]) -> Discrete:
    if not isinstance(space, Discrete) or space.start != 0:
        raise ConfigError(f"suite[{k}]: {spec.env_id} acts in {space}; allowed: Discrete actions that start at 0")
    return space


def _common_box(spaces: Sequence[Box]) -> Box:
    for k, space in enumerate(spaces):
        if space.shape != spaces[0].shape:
            raise ConfigError(f"suite[{k}]: observations have shape {space.shape}, those of suite[0] {spaces[0].shape}")
    dtype: Any = np.float64 if any(space.dtype.itemsize > 4 for space in spaces) else np.float32
    with np.errstate(over="ignore"):  # a bound beyond the type becomes infinite
        low = np.min([space.low for space in spaces], axis=0).astype(dtype)
        high = np.max([space.high for space in spaces], axis=0).astype(dtype)
    return Box(low, high, dtype=dtype)


def _common_actions(spaces: Sequence[Discrete]) -> Discrete:
    for k, space in enumerate(spaces):
        if space.n != spaces[0].n:
            raise ConfigError(f"suite[{k}]: has {space.n} actions, suite[0] has {spaces[0].n}; they must be the same")
    return Discrete(int(spaces[0].n))
