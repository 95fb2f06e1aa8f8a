"""A suite of the user's own as data: what a config says of it, every key checked."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from varshare_pl.envs.success import Reduction, SuccessMeasure
from varshare_pl.envs.tasks import GymTask, TaskSpec, told
from varshare_pl.envs.values import is_vector_key
from varshare_pl.envs.wrapping import parse_wrappers
from varshare_pl.errors import ConfigError
from varshare_pl.types import Anchors

TASK_KEYS = tuple(f.name for f in dataclasses.fields(GymTask))
SUITE_KEYS = ("name", "tasks", "wrappers", "time_limit", "success", "anchors", "pad")


class SuiteMapping(dict[str, Any]):
    """A suite as a user writes it in a mapping: its own with ``tasks``, or the ``name`` of one that ships, and options.

    The command line leaves one of this type as it is, its values with the types that they have.
    """


@dataclass(frozen=True)
class Definition:
    """What the user says of a suite; what is None follows from its envs."""

    tasks: tuple[TaskSpec, ...]
    name: str
    success: SuccessMeasure | None = None
    anchors: Anchors | None = None
    pad: bool = False


def parse_suite(given: Sequence[Any] | Mapping[str, Any]) -> Definition:
    """Read a list of tasks, or a mapping with one under the key ``tasks``.

    Raises:
        ConfigError: for the first thing that is not allowed.
    """
    suite = given if isinstance(given, Mapping) else {"tasks": given}
    unknown = [key for key in suite if key not in SUITE_KEYS]
    if unknown:
        raise ConfigError(f"suite.{unknown[0]}: unknown key; allowed: {', '.join(SUITE_KEYS)}")
    entries, pad = suite["tasks"], suite.get("pad", False)
    if isinstance(entries, str | Mapping) or not isinstance(entries, Sequence) or not entries:
        raise ConfigError(f"suite={entries!r}: must be a name or a list of at least one Gymnasium task")
    if not isinstance(pad, bool):
        raise ConfigError(f"suite.pad={pad!r}: must be true or false")
    tasks = [_parse_task(k, entry) for k, entry in enumerate(entries)]
    around = parse_wrappers(suite.get("wrappers", []), "suite.wrappers")
    limit = _parse_limit("suite.time_limit", suite.get("time_limit"))
    specs = [
        TaskSpec(
            name,
            task.id,
            dict(task.kwargs),
            dict(task.attributes),
            (*parse_wrappers(task.wrappers, f"suite[{k}].wrappers"), *around),
            limit if task.time_limit is None else task.time_limit,
        )
        for k, (name, task) in enumerate(zip(_names(tasks), tasks, strict=True))
    ]
    _check_limits(specs)
    name = suite.get("name")
    return Definition(
        tuple(specs),
        _default_name(tasks) if name is None else _parse_name(name),
        _parse_success(suite.get("success")),
        _parse_anchors(suite.get("anchors"), len(tasks)),
        pad,
    )


def _parse_task(k: int, entry: Any) -> GymTask:
    if isinstance(entry, str):
        entry = {"id": entry}
    if isinstance(entry, Mapping):
        unknown = [key for key in entry if key not in TASK_KEYS]
        if unknown:
            raise ConfigError(f"suite[{k}].{unknown[0]}: unknown key; allowed: {', '.join(TASK_KEYS)}")
        if "id" not in entry:
            raise ConfigError(f"suite[{k}].id: missing; give a Gymnasium id")
        entry = GymTask(**entry)
    if not isinstance(entry, GymTask):
        raise ConfigError(f"suite[{k}]={entry!r}: must be a GymTask or a dict with the keys {', '.join(TASK_KEYS)}")
    if not isinstance(entry.id, str):
        raise ConfigError(f"suite[{k}].id={entry.id!r}: must be a Gymnasium id, a string")
    _check_task_name(k, entry.name)
    for key in ("kwargs", "attributes"):
        value = getattr(entry, key)
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            raise ConfigError(f"suite[{k}].{key}={value!r}: must be a dict with strings as keys")
    _parse_limit(f"suite[{k}].time_limit", entry.time_limit)
    return entry


def _check_task_name(k: int, name: Any) -> None:
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
        values = {**task.kwargs, **task.attributes}
        changes = [f"{key}={value if isinstance(value, str) else told(value)}" for key, value in values.items()]
        name = task.name if task.name is not None else " ".join([task.id, *changes])
        if name in names:
            if task.name is not None:
                raise ConfigError(f"suite[{k}].name={name!r}: another task has that name; names must differ")
            name = f"{name} #{k}"
        names.append(name)
    return names


def _default_name(tasks: Sequence[GymTask]) -> str:
    ids = list(dict.fromkeys(task.id for task in tasks))
    name = "+".join(ids) if len(ids) <= 3 else f"{ids[0]}+{len(ids) - 1}-more"
    return re.sub(r"[^\w.+-]+", "_", name)


def _parse_name(name: Any) -> str:
    """A suite's name; folders of runs may have it in theirs."""
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.+-]*", name):
        raise ConfigError(f"suite.name={name!r}: must be a text of letters, digits and . + - _")
    return name


def _parse_limit(key: str, limit: Any) -> int | None:
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ConfigError(f"{key}={limit!r}: must be a number of steps of at least 1")
    return limit


def _check_limits(specs: Sequence[TaskSpec]) -> None:
    for k, spec in enumerate(specs):
        if spec.time_limit is not None and "max_episode_steps" in spec.kwargs:
            raise ConfigError(
                f"suite[{k}].kwargs.max_episode_steps: not allowed beside time_limit, which means the same"
            )


def _parse_success(given: Any) -> SuccessMeasure | None:
    if given is None:
        return None
    keys = tuple(f.name for f in dataclasses.fields(SuccessMeasure))
    if not isinstance(given, Mapping) or not given:
        raise ConfigError(f"suite.success={given!r}: must be a dict with the keys {', '.join(keys)}")
    unknown = [key for key in given if key not in keys]
    if unknown:
        raise ConfigError(f"suite.success.{unknown[0]}: unknown key; allowed: {', '.join(keys)}")
    info, reduce, solved = (given.get(key) for key in keys)
    if info is not None and (not isinstance(info, str) or not info):
        raise ConfigError(f"suite.success.info={info!r}: must be a key of the env's info, a text")
    if info is not None and (info == "task" or is_vector_key(info)):
        raise ConfigError(f"suite.success.info={info!r}: the vector env keeps this key for itself")
    if reduce is not None and reduce not in get_args(Reduction):
        raise ConfigError(f"suite.success.reduce={reduce!r}: allowed: {', '.join(get_args(Reduction))}")
    if reduce is not None and info is None:
        raise ConfigError(f"suite.success.reduce={reduce!r}: has a meaning only with info; the return is a sum")
    if solved is not None and not _is_number(solved):
        raise ConfigError(f"suite.success.solved={solved!r}: must be a finite number")
    measure = SuccessMeasure(info=info, solved=None if solved is None else float(solved))
    return measure if reduce is None else dataclasses.replace(measure, reduce=reduce)


def _parse_anchors(given: Any, num_tasks: int) -> Anchors | None:
    if given is None:
        return None
    if not isinstance(given, Mapping) or set(given) != {"low", "high"}:
        raise ConfigError(f"suite.anchors={given!r}: must be a dict with the keys low and high")
    ends = {}
    for key in ("low", "high"):
        values = given[key] if isinstance(given[key], list | tuple) else [given[key]] * num_tasks
        if len(values) != num_tasks or not all(map(_is_number, values)):
            raise ConfigError(
                f"suite.anchors.{key}={given[key]!r}: must be a finite number, or {num_tasks}, one a task"
            )
        ends[key] = tuple(map(float, values))
    for k, (low, high) in enumerate(zip(ends["low"], ends["high"], strict=True)):
        if not low < high:
            raise ConfigError(f"suite.anchors: low is {low:g} and high {high:g} for task {k}; low must be below high")
    return Anchors(ends["low"], ends["high"])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
