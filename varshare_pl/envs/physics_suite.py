"""A suite with physics of its own, which batched vector envs step; its tasks have a Gymnasium id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from varshare_pl.envs.physics.dynamics import Dynamics
from varshare_pl.envs.success import SuccessMeasure
from varshare_pl.envs.tasks import TaskSpec, TaskSuite

VERSION = 0


def env_id(suite: str) -> str:
    """The Gymnasium id of a suite's tasks."""
    return f"varshare_pl/{suite}-v{VERSION}"


def physics_suite(
    name: str,
    task_names: Sequence[str],
    dynamics: Dynamics,
    success: SuccessMeasure,
    options: Mapping[str, Any] | None = None,
    variant: str = "",
) -> TaskSuite:
    """A suite of the tasks of some dynamics.

    Args:
        name: By which ``get_suite`` finds it.
        task_names: M names.
        dynamics: Of M tasks.
        success: What counts as success.
        options: Those of the suite, from which ``get_suite`` makes the same again.
        variant: Behind the suite's name in results, where options make another suite of it.
    """
    kwargs = dict(options or {})
    return TaskSuite(
        name=f"{name}-{variant}" if variant else name,
        tasks=tuple(TaskSpec(task, env_id(name), {"task": k, **kwargs}) for k, task in enumerate(task_names)),
        observation_space=dynamics.observation_space,
        action_space=dynamics.action_space,
        success=success,
        version=VERSION,
        dynamics=dynamics,
    )
