"""Task suites and vector environments; NumPy and Gymnasium only."""

from varshare_pl.envs.definition import SuiteMapping
from varshare_pl.envs.physics.batched import BatchedVectorEnv
from varshare_pl.envs.suites import PHYSICS_SUITES, SUITES, get_suite
from varshare_pl.envs.tasks import GymTask, TaskSpec, TaskSuite
from varshare_pl.envs.vector import (
    final_observations,
    get_state,
    make_vector_env,
    resolve_assignment,
    resolve_backend,
    set_state,
)

__all__ = [
    "PHYSICS_SUITES",
    "SUITES",
    "BatchedVectorEnv",
    "GymTask",
    "SuiteMapping",
    "TaskSpec",
    "TaskSuite",
    "final_observations",
    "get_state",
    "get_suite",
    "make_vector_env",
    "resolve_assignment",
    "resolve_backend",
    "set_state",
]
