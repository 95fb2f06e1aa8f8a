"""A family of Gymnasium's LunarLander: other gravity, wind, and engines of the other side."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from varshare_pl.envs.custom import custom_suite
from varshare_pl.envs.extras import need
from varshare_pl.envs.tasks import TaskSuite

MIRRORED = (0, 3, 2, 1)  # nothing, right engine, main engine, left engine


class MirroredEngines(gym.ActionWrapper[Any, Any, Any]):
    """Fires the right engine where the left one is meant, and the left one where the right one is."""

    def action(self, action: Any) -> Any:
        if isinstance(self.env.action_space, Box):
            return np.asarray(action) * np.array([1.0, -1.0], np.float32)
        return MIRRORED[int(action)]


def lunar_lander(continuous: bool = False, mirrored: bool = True) -> TaskSuite:
    """Six landers, or three of them; solved is a mean return of 200, as the id has it.

    Args:
        continuous: Whether the thrusts of main and side engines are numbers from −1 to 1.
        mirrored: Whether each lander is there with mirrored engines, too.
    """
    need("Box2D", "box2d", "LunarLander")
    landers: dict[str, dict[str, Any]] = {
        "baseline": {},
        "low gravity": {"gravity": -5.0},
        "wind": {"enable_wind": True, "wind_power": 10.0, "turbulence_power": 1.0},
    }
    tasks: list[Any] = [_task(name, kwargs, continuous) for name, kwargs in landers.items()]
    if mirrored:
        around = [f"{__name__}.MirroredEngines"]
        more = [_task(f"{name}, mirrored", kwargs, continuous) for name, kwargs in landers.items()]
        tasks += [task | {"wrappers": around} for task in more]
    name = f"LunarLander{'Continuous' if continuous else ''}{'' if mirrored else '-unmirrored'}"
    return custom_suite({"name": name, "tasks": tasks})


def _task(name: str, kwargs: dict[str, Any], continuous: bool) -> dict[str, Any]:
    return {"id": "LunarLander-v3", "name": name, "kwargs": kwargs | ({"continuous": True} if continuous else {})}
