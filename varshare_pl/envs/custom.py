"""Suites made of any Gymnasium environments."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gymnasium.spaces import Box

from varshare_pl.envs.actions import action_counts, check_actions, common_actions
from varshare_pl.envs.definition import parse_suite
from varshare_pl.envs.observations import as_box, common_box
from varshare_pl.envs.physics.dynamics import ActionSpace
from varshare_pl.envs.success import SuccessMeasure
from varshare_pl.envs.tasks import GymTask, TaskSpec, TaskSuite
from varshare_pl.errors import ConfigError


class Probe(NamedTuple):
    """What an env tells once it is made."""

    observations: Box
    actions: ActionSpace
    threshold: float | None  # the return from which on the id counts as solved


def custom_suite(given: Sequence[GymTask | dict[str, Any] | str] | Mapping[str, Any]) -> TaskSuite:
    """Build a suite from a list of tasks, or a mapping of tasks and settings; each kind of env is made once, to look.

    Raises:
        ConfigError: if a key is not allowed, a task cannot be made, or the tasks' spaces do not fit together.
    """
    defined = parse_suite(given)
    probes = _probes(defined.tasks)
    thresholds = {probe.threshold for probe in probes}
    actions = [probe.actions for probe in probes]
    return TaskSuite(
        name=defined.name,
        tasks=defined.tasks,
        observation_space=common_box([probe.observations for probe in probes], defined.pad),
        action_space=common_actions(actions, defined.pad),
        success=defined.success or SuccessMeasure(solved=thresholds.pop() if len(thresholds) == 1 else None),
        anchors=defined.anchors,
        action_counts=action_counts(actions),
    )


def _probes(specs: Sequence[TaskSpec]) -> list[Probe]:
    """What each task's env has; those that are made the same way but for the task's name are made once."""
    found: dict[bytes | int, Probe] = {}
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


def _probe(k: int, spec: TaskSpec) -> Probe:
    """Make the env once and look at it."""
    try:
        env = spec.make()
    except ConfigError as error:
        raise ConfigError(f"suite[{k}].{error}") from error
    except Exception as error:  # whatever a foreign constructor raises, the user sees the entry that is to blame
        text = " ".join(str(error).split())
        raise ConfigError(f"suite[{k}]: cannot make {spec.env_id!r} with {spec.kwargs}: {text}") from error
    try:
        threshold = None if env.spec is None else env.spec.reward_threshold
        return Probe(as_box(env.observation_space), check_actions(env.action_space), threshold)
    except ConfigError as error:
        raise ConfigError(f"suite[{k}]: {spec.env_id} {error}") from error
    finally:
        env.close()
