"""A look at what a suite's envs tell at the end of an episode."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from varshare_pl.envs import TaskSuite
from varshare_pl.errors import ConfigError

MAX_STEPS = 1_000


def check_info_metrics(suite: TaskSuite, names: Sequence[str]) -> None:
    """Play one random episode of each task and see that its last info has these names.

    An episode longer than ``MAX_STEPS`` proves nothing and passes.

    Raises:
        ConfigError: for a name that an env does not offer.
    """
    if not names:
        return
    for task in range(suite.num_tasks):
        info = _last_info(suite, task)
        for name in names:
            if info is not None and name not in info:
                offered = f"{', '.join(sorted(info))} is" if info else "none is"
                raise ConfigError(
                    f"data.info_metrics: {name} is not in the last info of {suite.tasks[task].name}; {offered}"
                )


def _last_info(suite: TaskSuite, task: int) -> dict[str, object] | None:
    env, rng = suite.make_task(task), np.random.default_rng(0)
    try:
        env.reset(seed=0)
        for _ in range(MAX_STEPS):
            _, _, terminated, truncated, info = env.step(int(rng.integers(suite.num_actions)))
            if terminated or truncated:
                return info
        return None
    finally:
        env.close()
