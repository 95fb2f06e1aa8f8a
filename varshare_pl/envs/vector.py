"""A suite as a vector env: batched, torch, sync or workers, with the same trajectories in all four."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from varshare_pl.envs.physics.batched import BatchedVectorEnv
from varshare_pl.envs.suites import get_suite
from varshare_pl.envs.task_env import TaskEnv
from varshare_pl.envs.tasks import GymTask, TaskSuite
from varshare_pl.envs.values import VectorInfos, is_vector_key
from varshare_pl.envs.workers import WorkerEnvs
from varshare_pl.errors import ConfigError

Backend = Literal["auto", "batched", "torch", "sync", "workers"]
Assignment = Literal["auto", "fixed", "cycle"]


def make_vector_env(
    suite: str | Sequence[GymTask | dict[str, Any] | str] | TaskSuite,
    num_envs: int,
    backend: Backend = "auto",
    seed: int = 0,
    task_assignment: Assignment = "auto",
    env_indices: Sequence[int] | None = None,
    total_envs: int | None = None,
    render_mode: str | None = None,
    context: str | None = None,
    num_workers: int | None = None,
    worker_timeout: float | None = None,
    info_keys: Sequence[str] | None = None,
) -> VectorEnv[Any, Any, Any]:
    """Make a vector env over all tasks of a suite, with SAME_STEP autoreset and ``info["task"]``.

    The env with global index g starts at task g mod M. Its random stream depends on ``seed`` and g only, so the
    trajectories are the same in every backend and however the envs are split over processes.

    Args:
        suite: a name, a list of Gymnasium tasks, or a suite.
        num_envs: N, the number of envs here.
        backend: "batched" (arrays) or "torch" (tensors; made to be compiled together with a policy), for built-in
            suites only; "sync" (Gymnasium's, one env after the other) or "workers" (processes with several envs each),
            for any suite; "auto" takes "batched" where it can, else "workers" where ``num_workers`` is given, else
            "sync".
        seed: of the run; used by the first ``reset()``.
        task_assignment: "fixed" (an env keeps its task), "cycle" (it takes the next one at every reset), or "auto":
            fixed where the number of all envs is a multiple of M.
        env_indices: the global indices of the N envs; 0 to N - 1 by default.
        total_envs: the number of envs over all processes; needed with ``env_indices``.
        render_mode: as in ``gymnasium.make``; "rgb_array" is the only one for "batched" and "torch".
        context: how "workers" starts its processes: "forkserver", "spawn" or "fork"; None: the first of them that the
            system has. The first two are safe in a process with threads, and know what can be imported: an id that
            the main script registers with a class of its own makes them run the script anew, which then needs
            ``if __name__ == "__main__":``. A forked process has all that its parent has.
        num_workers: processes of "workers", at most N; None: one a core.
        worker_timeout: seconds that an env of "workers" may take to be made, for a reset or a step; None: any time.
        info_keys: the numbers of the info that are needed at every step; "workers" leaves all others out, but for the
            whole last info of an episode. None: what the suite's success is read from.

    Raises:
        ConfigError: for a bad argument.
    """
    suite = get_suite(suite)
    if not _is_int(seed) or seed < 0:
        raise ConfigError(f"seed={seed!r}: must be an integer of at least 0")
    keys = suite.success.info_keys if info_keys is None else info_keys
    for key in keys:
        if key == "task" or is_vector_key(key):
            raise ConfigError(f"info_keys: {key!r} is not allowed; the vector env keeps this key for itself")
    indices, total = _check_indices(num_envs, env_indices, total_envs)
    cycle = resolve_assignment(suite, total, task_assignment) == "cycle"
    start_tasks = [g % suite.num_tasks for g in indices]
    backend = resolve_backend(suite, backend, num_workers, worker_timeout, context)
    if suite.dynamics is not None and backend in ("batched", "torch"):
        make = _torch_env() if backend == "torch" else BatchedVectorEnv
        return make(suite.dynamics, start_tasks, env_indices=indices, cycle=cycle, seed=seed, render_mode=render_mode)
    if backend == "workers":
        return WorkerEnvs(
            suite,
            start_tasks,
            env_indices=indices,
            cycle=cycle,
            seed=seed,
            render_mode=render_mode,
            num_workers=num_workers,
            timeout=worker_timeout,
            info_keys=keys,
            context=context,
        )
    make_fns: list[Callable[[], TaskEnv]] = [
        partial(TaskEnv, suite, task, seed=seed, env_index=g, cycle=cycle, render_mode=render_mode)
        for task, g in zip(start_tasks, indices, strict=True)
    ]
    return SyncEnvs(make_fns, autoreset_mode=AutoresetMode.SAME_STEP)


class SyncEnvs(VectorInfos, SyncVectorEnv):
    """Gymnasium's, with infos of any types and a state."""

    def get_state(self) -> dict[str, Any]:
        """As ``get_state`` below."""
        return {"envs": [env.get_state() for env in self._task_envs()]}

    def set_state(self, state: dict[str, Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """As ``set_state`` below."""
        for env, of_env in zip(self._task_envs(), state["envs"], strict=True):
            env.set_state(of_env)
        obs = [env.last_obs for env in self._task_envs()]
        return np.stack(obs), np.array([env.task for env in self._task_envs()], dtype=np.int64)

    def _task_envs(self) -> list[Any]:
        return list(self.envs)


def _torch_env() -> type[BatchedVectorEnv]:
    from varshare_pl.envs.torch_backend import TorchVectorEnv  # loads torch, which the other backends do without

    return TorchVectorEnv


def resolve_backend(
    suite: TaskSuite,
    backend: Backend,
    num_workers: int | None = None,
    worker_timeout: float | None = None,
    context: str | None = None,
) -> Backend:
    """Decide what "auto" means.

    Raises:
        ConfigError: for a backend that the suite does not allow, or options of workers where there are none.
    """
    _check_choice("backend", backend, get_args(Backend))
    if backend in ("batched", "torch") and suite.dynamics is None:
        raise ConfigError(f"backend={backend!r}: {suite.name} has no batched physics; allowed: auto, sync, workers")
    if backend == "auto":
        backend = "batched" if suite.dynamics is not None else "sync" if num_workers is None else "workers"
    if num_workers is not None and (not _is_int(num_workers) or num_workers < 1):
        raise ConfigError(f"num_workers={num_workers!r}: must be an integer of at least 1, or None")
    if worker_timeout is not None and not 0 < worker_timeout < np.inf:
        raise ConfigError(f"worker_timeout={worker_timeout!r}: must be a number of seconds above 0, or None")
    of_workers = {"num_workers": num_workers, "worker_timeout": worker_timeout, "context": context}
    for key, value in of_workers.items():
        if value is not None and backend != "workers":
            raise ConfigError(f"{key}={value!r}: the backend is {backend!r}, which has no workers; allowed: None")
    return backend


def resolve_assignment(suite: TaskSuite, total_envs: int, task_assignment: Assignment) -> Literal["fixed", "cycle"]:
    """Decide what "auto" means.

    Raises:
        ConfigError: for "fixed" where ``total_envs`` is no multiple of the number of tasks.
    """
    _check_choice("task_assignment", task_assignment, ("auto", "fixed", "cycle"))
    fits = total_envs % suite.num_tasks == 0
    if task_assignment == "fixed" and not fits:
        raise ConfigError(
            f"num_envs={total_envs}: task_assignment 'fixed' needs a multiple of the {suite.num_tasks} tasks of "
            f"{suite.name}; take one, or 'cycle'"
        )
    return "fixed" if fits and task_assignment != "cycle" else "cycle"


def get_state(vec: VectorEnv[Any, Any, Any]) -> dict[str, Any]:
    """Everything the next steps of a vector env depend on, as plain data (numbers, strings, lists, dicts).

    The layout is the same in every backend: ``{"envs": [...]}``, for each env its ``task``, ``steps`` (of the episode),
    ``obs``, ``rng`` (its random stream), ``wrappers`` (what those around it remember) and ``env``. ``env`` is None
    where the env cannot tell its state (its unwrapped class has no ``get_state`` and ``set_state``, or a wrapper keeps
    what is no plain data); then ``set_state`` restarts its episode. An env of a custom suite adds ``spaces`` (the
    stream that its spaces draw from) and ``others`` (the states of the tasks that it does not have at the moment).

    Args:
        vec: made by ``make_vector_env``, after its first reset.
    """
    return vec.get_state()  # type: ignore[attr-defined, no-any-return]


def set_state(vec: VectorEnv[Any, Any, Any], state: dict[str, Any]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Go on exactly where ``get_state`` was called, in a vector env made with the same arguments.

    Returns:
        The current observations, (N, *obs) float32, and their tasks, (N,) int64.

    Raises:
        ConfigError: if ``state`` is of another number of envs.
    """
    if len(state["envs"]) != vec.num_envs:
        raise ConfigError(f"state: it holds {len(state['envs'])} envs, the vector env has num_envs={vec.num_envs}")
    if any("wrappers" not in env for env in state["envs"]):
        raise ConfigError("state: it was written by an earlier version, which did not keep all of an env's state")
    return vec.set_state(state)  # type: ignore[attr-defined, no-any-return]


def final_observations(info: dict[str, Any], obs: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The last observations of the episodes that ended in a step, in one layout for all backends.

    Args:
        info: as ``step`` returned it.
        obs: (N, *obs), as ``step`` returned it; only its shape counts.

    Returns:
        (N, *obs) float32, 0 where no episode ended, and (N,) bool, where one did.
    """
    if "final_obs" not in info:
        return np.zeros_like(obs), np.zeros(len(obs), dtype=np.bool_)
    final, mask = info["final_obs"], info["_final_obs"]
    if final.dtype != object:
        return final, mask
    dense = np.zeros_like(obs)
    for i in np.flatnonzero(mask):
        dense[i] = final[i]
    return dense, mask


def _check_choice(key: str, value: Any, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigError(f"{key}={value!r}: allowed: {', '.join(allowed)}")


def _is_int(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _check_indices(num_envs: int, env_indices: Sequence[int] | None, total_envs: int | None) -> tuple[list[int], int]:
    """Return the global indices and the number of all envs."""
    if not _is_int(num_envs) or num_envs < 1:
        raise ConfigError(f"num_envs={num_envs!r}: must be an integer of at least 1")
    if env_indices is None:
        if total_envs not in (None, num_envs):
            raise ConfigError(f"total_envs={total_envs!r}: differs from num_envs={num_envs}; then give env_indices too")
        return list(range(num_envs)), num_envs
    if total_envs is None:
        raise ConfigError("total_envs: missing; with env_indices give the number of envs over all processes")
    indices = [int(g) for g in env_indices]
    if len(indices) != num_envs or len(set(indices)) != num_envs or not all(0 <= g < total_envs for g in indices):
        raise ConfigError(
            f"env_indices={indices}: must be num_envs={num_envs} different numbers from 0 to {total_envs - 1}"
        )
    return indices, total_envs
