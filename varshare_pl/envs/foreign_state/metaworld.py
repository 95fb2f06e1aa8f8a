"""Meta-World's wrappers that choose a goal at a reset: their goals, in order, and how far they are.

A goal is pickled bytes there. A checkpoint holds it as plain data, so that nothing is unpickled when it is read.
"""

from __future__ import annotations

import pickle
from typing import Any


def get_state(wrapper: Any) -> dict[str, Any]:
    """The wrapper's attributes, each goal as [its env's name, what it sets]."""
    tasks = [[task.env_name, _without_class(pickle.loads(task.data))] for task in wrapper.tasks]
    counters = {name: vars(wrapper)[name] for name in _COUNTERS if name in vars(wrapper)}
    return {"tasks": tasks, **counters}


def set_state(wrapper: Any, state: dict[str, Any]) -> None:
    """Make the goals again."""
    from metaworld.types import Task

    env_class = type(wrapper.unwrapped)
    wrapper.tasks = [Task(name, pickle.dumps({**data, "env_cls": env_class})) for name, data in state["tasks"]]
    for name in _COUNTERS:
        if name in state:
            setattr(wrapper, name, state[name])


_COUNTERS = ("sample_tasks_on_reset", "current_task_idx")


def _without_class(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != "env_cls"}
