"""The MiniGrid suites MT3, MT5 and MT7 of MOORE (Hendawy et al. 2024, arXiv 2311.11385), from its published code.

An agent sees the 7 × 7 cells before it, for each the kind of object, its colour and its state; missions in words are
left out. Each task has seven actions, of which some do nothing in it, and the time limit that its id has.
"""

from __future__ import annotations

from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict

from varshare_pl.envs.custom import custom_suite
from varshare_pl.envs.extras import need
from varshare_pl.envs.tasks import TaskSuite

Benchmark = Literal["MT3", "MT5", "MT7"]
LARGEST = 10  # the index of the last kind of object, "agent"; colours and states have fewer

TASKS: dict[str, tuple[str, ...]] = {
    "MT3": ("LavaGapS7", "RedBlueDoors-6x6", "MemoryS11"),
    "MT5": ("DoorKey-6x6", "LavaGapS7", "RedBlueDoors-6x6", "DistShift1", "MemoryS11"),
    "MT7": (
        *("DoorKey-6x6", "DistShift1", "RedBlueDoors-6x6", "LavaGapS7", "MemoryS11"),
        *("SimpleCrossingS9N2", "MultiRoom-N2-S4"),
    ),
}


class GridView(gym.ObservationWrapper[Any, Any, Any]):
    """Observes the cells alone, (7, 7, 3) uint8, in a Box that ends where their numbers do."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        assert isinstance(env.observation_space, Dict)
        shape = env.observation_space["image"].shape
        self.observation_space = Box(0, LARGEST, shape, np.uint8)

    def observation(self, observation: Any) -> Any:
        return observation["image"]


def minigrid(benchmark: Benchmark = "MT3") -> TaskSuite:
    """The tasks of one of the three benchmarks; an episode's return is from 0 to 1.

    Args:
        benchmark: Which one.
    """
    need("minigrid", "minigrid", "MiniGrid")
    return custom_suite(
        {
            "name": f"MiniGrid{benchmark}",
            "tasks": [{"id": f"minigrid:MiniGrid-{name}-v0", "name": name} for name in TASKS[benchmark]],
            "wrappers": [f"{__name__}.GridView"],
            "anchors": {"low": 0, "high": 1},
        }
    )
