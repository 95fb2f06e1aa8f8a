"""Any envs, stepped by worker processes: several envs a worker, everything they give in memory that all share."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from varshare_pl.envs.seeding import spread_seeds
from varshare_pl.envs.shared_block import SharedBlock
from varshare_pl.envs.task_env import where
from varshare_pl.envs.tasks import TaskSuite
from varshare_pl.envs.values import VectorInfos
from varshare_pl.envs.worker import STEP, Plan
from varshare_pl.envs.worker_process import Answer, WorkerProcess, end_at_exit, start_workers
from varshare_pl.errors import EnvError
from varshare_pl.processes import usable_cores

START_SECONDS = 60.0  # in which a worker has loaded what it needs


class WorkerEnvs(VectorInfos, VectorEnv[Any, Any, Any]):
    """N envs in W processes, with the trajectories of ``sync`` and ``AutoresetMode.SAME_STEP``.

    Of the infos it gives the task and the numbers of ``info_keys`` (float64), and the whole last info of an episode
    that ended. Which env is in which process changes nothing: each has its own streams, and a state that was taken
    with W workers goes on with any number of them.

    Args:
        suite: where the tasks come from.
        start_tasks: (N,) the first task of each env.
        env_indices: (N,) the global index of each env, which together with ``seed`` gives its random streams.
        cycle: whether an env takes the next task at every reset.
        seed: of the run.
        render_mode: as in ``gymnasium.make``.
        num_workers: processes, at most N; None: one a core.
        timeout: seconds that one env may take for a step, a reset or to be made; None: any time.
        info_keys: the numbers of the info to tell at every step.
        context: how the processes are started: "forkserver", "spawn" or "fork"; None: the first that there is.

    Raises:
        ConfigError: if the suite cannot be sent to another process.
        EnvError: if an env raises, or its process dies or takes longer than ``timeout``; in every method.
    """

    def __init__(
        self,
        suite: TaskSuite,
        start_tasks: Sequence[int],
        *,
        env_indices: Sequence[int],
        cycle: bool = False,
        seed: int = 0,
        render_mode: str | None = None,
        num_workers: int | None = None,
        timeout: float | None = None,
        info_keys: Sequence[str] = (),
        context: str | None = None,
    ) -> None:
        self.num_envs = n = len(start_tasks)
        self.render_mode = render_mode
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space = suite.observation_space
        self.single_action_space = suite.action_space
        self.observation_space = batch_space(suite.observation_space, n)
        self.action_space = batch_space(suite.action_space, n)
        self._timeout = timeout
        shares = _shares(start_tasks, min(n, num_workers or usable_cores()))
        self._plan = Plan(
            suite=suite,
            start_tasks=tuple(start_tasks),
            env_indices=tuple(env_indices),
            seed=seed,
            cycle=cycle,
            render_mode=render_mode,
            info_keys=tuple(info_keys),
            shares=shares,
        )
        self._owner = os.getpid()
        self._workers: list[WorkerProcess] = []
        end_at_exit(self, self._workers)
        self._block: SharedBlock = start_workers(self._plan, context, self._workers)
        try:
            self._answers(None if timeout is None else max(timeout, START_SECONDS))
            self._answers(timeout)
        except BaseException:
            self.close()
            raise

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Step all envs; ``actions`` is (N, *action)."""
        block, actions = self._block, np.asarray(actions)
        if actions.shape != block.actions.shape or not np.can_cast(actions.dtype, block.actions.dtype, "same_kind"):
            raise gym.error.InvalidAction(f"actions {actions!r} are not in {self.action_space}")
        block.actions[:] = actions
        for worker in self._workers:
            worker.send(STEP)
        info = self._infos(self._answers(self._timeout))
        flags = block.terminated.copy(), block.truncated.copy()
        return block.obs.copy(), block.rewards.copy(), *flags, info

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start new episodes; ``options`` may hold ``reset_mask``, (N,) bool, to do so in some envs only."""
        seeds = spread_seeds(seed, self.num_envs)
        mask = np.ones(self.num_envs, np.bool_)
        if options is not None and "reset_mask" in options:
            mask = options["reset_mask"]
            options = {key: value for key, value in options.items() if key != "reset_mask"}
        chosen = {place: seeds[place] for place in np.flatnonzero(mask).tolist()}
        info = self._infos(self._ask("reset", chosen, options))
        return self._block.obs.copy(), info

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """What a method of each env gives, or an attribute."""
        found: dict[int, Any] = {}
        for answer in self._ask("call", name, args, kwargs):
            found |= answer
        return tuple(found[place] for place in range(self.num_envs))

    def render(self) -> tuple[Any, ...] | None:
        """One image an env."""
        return None if self.render_mode is None else self.call("render")

    def get_state(self) -> dict[str, Any]:
        """Everything the next steps depend on; see ``vector.get_state``."""
        return {"envs": list(self.call("get_state"))}

    def set_state(self, state: dict[str, Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Go on where ``get_state`` was called; gives the observations and their tasks."""
        self._ask("set_states", dict(enumerate(state["envs"])))
        return self._block.obs.copy(), self._block.task.copy()

    def close_extras(self, **kwargs: Any) -> None:
        if os.getpid() != self._owner:  # a forked process has a copy of this object
            return
        workers, faults = self._workers[:], []
        self._workers.clear()
        for worker in workers:
            worker.send(pickle.dumps(("close",)))
        for worker in workers:
            with suppress(Exception):  # what was under way is lost, and so is what a dead one would say
                if fault := worker.end():
                    faults.append((self._at(worker), fault))
        if faults:
            raise min(faults, key=lambda fault: fault[0])[1]

    def _ask(self, name: str, *args: Any) -> list[Any]:
        message = pickle.dumps((name, *args))
        for worker in self._workers:
            worker.send(message)
        return self._answers(self._timeout)

    def _answers(self, seconds: float | None) -> list[Any]:
        """The results of all workers; raises what the first env raised, once all have answered.

        Args:
            seconds: That each of their envs may take.
        """
        results, faults, warned = [], [], {}
        for worker in self._workers:
            try:
                result, fault, told = self._answer(worker, seconds)
            except EnvError as error:
                result, fault, told = None, error, []
            results.append(result)
            warned.update(dict.fromkeys(told))
            if fault is not None:
                faults.append((self._at(worker), fault))
        for category, text in warned:
            warnings.warn(text, category, stacklevel=3)
        if faults:
            raise min(faults, key=lambda fault: fault[0])[1]
        return results

    def _answer(self, worker: WorkerProcess, seconds: float | None) -> Answer:
        if seconds is not None:
            self._wait(worker, seconds)
        try:
            return worker.receive()
        except (EOFError, OSError):
            raise EnvError(f"{self._where(worker)}: its process died{worker.how_it_ended()}") from None

    def _wait(self, worker: WorkerProcess, seconds: float) -> None:
        """Wait for an answer as long as the worker gets from env to env in time."""
        begun = -1
        while begun != (now := int(self._block.begun[worker.number])):
            begun = now
            if worker.connection.poll(seconds):
                return
        worker.process.kill()
        raise EnvError(f"{self._where(worker)}: its process did not answer for {seconds:g} seconds, the worker_timeout")

    def _at(self, worker: WorkerProcess) -> int:
        return int(self._block.at[worker.number])

    def _where(self, worker: WorkerProcess) -> str:
        """The env that a worker is at."""
        place = self._at(worker)
        task, steps = int(self._block.task[place]), int(self._block.steps[place])
        return where(self._plan.suite, self._plan.env_indices[place], task, steps)

    def _infos(self, answers: list[Any]) -> dict[str, Any]:
        """The infos of a step as arrays, in Gymnasium's layout."""
        block, everywhere = self._block, np.ones(self.num_envs, np.bool_)
        info: dict[str, Any] = {"task": block.task.copy(), "_task": everywhere}
        for key, numbers, told in zip(self._plan.info_keys, block.numbers, block.told, strict=True):
            if told.any():
                info[key], info[f"_{key}"] = numbers.copy(), told.copy()
        finals: dict[int, dict[str, Any]] = {}
        odd: dict[int, dict[str, Any]] = {}
        for answer in answers:
            if answer is not None:
                finals |= answer[0]
                odd |= answer[1]
        for place in sorted(odd):
            info = self._add_info(info, odd[place], place)
        for place in sorted(finals):
            info = self._add_info(info, {"final_info": finals[place]}, place)
        if finals:
            done = info["_final_info"]
            info["final_obs"], info["_final_obs"] = np.zeros_like(block.obs), done.copy()
            info["final_obs"][done] = block.final_obs[done]
        return info


def _shares(start_tasks: Sequence[int], workers: int) -> tuple[tuple[int, ...], ...]:
    """Deal the envs out task by task, so that each worker has some of every task: slow ones and fast ones."""
    by_task = sorted(range(len(start_tasks)), key=lambda place: start_tasks[place])
    return tuple(tuple(sorted(by_task[number::workers])) for number in range(workers))
