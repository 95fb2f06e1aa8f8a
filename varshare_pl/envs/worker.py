"""A worker process: it makes its share of the envs, steps them when it is told to, and ends with its parent."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

from varshare_pl.envs.seeding import stream_seed
from varshare_pl.envs.shared_block import SharedBlock
from varshare_pl.envs.task_env import TaskEnv
from varshare_pl.envs.tasks import TaskSuite
from varshare_pl.envs.values import as_number
from varshare_pl.errors import ConfigError, EnvError
from varshare_pl.processes import ONE_THREAD

STEP = b"step"  # the message of every step; all others are pickled: a method of ``Worker`` and its arguments
SIGNALS = (signal.SIGINT, signal.SIGTERM)  # for the parent, which ends its workers when it is done


@dataclass(frozen=True)
class Plan:
    """What all workers of a vector env of N envs know.

    Attributes:
        suite: Where the tasks come from.
        start_tasks: (N,) the first task of each env.
        env_indices: (N,) its global index.
        seed: Of the run.
        cycle: Whether an env takes the next task at every reset.
        render_mode: As in ``gymnasium.make``.
        info_keys: The K numbers of the info that are told at every step.
        shares: For each of the W workers which envs it has, by their place among the N.
    """

    suite: TaskSuite
    start_tasks: tuple[int, ...]
    env_indices: tuple[int, ...]
    seed: int
    cycle: bool
    render_mode: str | None
    info_keys: tuple[str, ...]
    shares: tuple[tuple[int, ...], ...]

    @property
    def sizes(self) -> tuple[Any, ...]:
        """Those of the shared block."""
        spaces = self.suite.observation_space, self.suite.action_space
        return *spaces, len(self.start_tasks), len(self.shares), len(self.info_keys)


def work(connection: Connection, memory: Any, number: int, plan: Plan | bytes) -> None:
    """What the process does.

    Args:
        connection: To the parent.
        memory: Of the shared block.
        number: Which worker it is.
        plan: In a forked process as it is; else pickled with the registrations of its ids, to be read when all is set.
    """
    for number_of_signal in SIGNALS:  # by a handler, which a program that an env starts does not inherit
        signal.signal(number_of_signal, _left_to_the_parent)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    os.environ.update(ONE_THREAD)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        plan = _read(plan) if isinstance(plan, bytes) else plan
    except Exception as error:  # whatever a foreign module raises
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        fault = ConfigError(f"backend='workers': another process cannot read the suite: {text}")
        connection.send_bytes(pickle.dumps((None, fault, [])))
        return
    Worker(connection, memory, number, plan).serve()


def registered(suite: TaskSuite) -> list[EnvSpec]:
    """How Gymnasium makes the suite's ids, but for those that it does not know or that no other process can be told."""
    specs = []
    for task in suite.tasks:
        with suppress(gym.error.Error, ImportError):
            specs.append(gym.spec(task.env_id))
    return [spec for spec in specs if _can_be_sent(spec)]


def _read(plan: bytes) -> Plan:
    """A plan that was pickled with the registrations of its ids."""
    read, specs = pickle.loads(plan)
    for spec in specs:
        gym.registry[spec.id] = spec  # also where this process knows the id otherwise
    assert isinstance(read, Plan)
    return read


def _left_to_the_parent(number: int, frame: Any) -> None:
    """Do nothing: the parent ends its workers when it is done."""


def _end_with_parent() -> None:
    """End where the parent has died, also in the midst of a step that never ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


class Worker:
    """Steps its envs; what they give is left in the block, and what does not fit there is in the answer."""

    def __init__(self, connection: Connection, memory: Any, number: int, plan: Plan) -> None:
        self._connection, self._number, self._plan = connection, number, plan
        self._block = SharedBlock.over(memory, *plan.sizes)
        self._envs: dict[int, TaskEnv] = {}  # by place
        self._open = True
        self._warned: list[tuple[type[Warning], str]] = []
        warnings.showwarning = self._warn  # the parent warns, once for all

    def serve(self) -> None:
        """Say that all is loaded, make the envs, then do what the parent says until it closes them or is gone."""
        self._connection.send_bytes(b"")
        answer = self._try(self._make)
        while True:
            with suppress(OSError):  # the parent is gone
                self._connection.send_bytes(answer)
            if not self._open:
                return
            try:
                message = self._connection.recv_bytes()
            except (EOFError, OSError):
                return
            if message == STEP:
                answer = self._try(self._step)
            else:
                name, *args = pickle.loads(message)
                answer = self._try(getattr(self, name), *args)

    def _try(self, do: Callable[..., Any], *args: Any) -> bytes:
        """The answer to a message: the result, what was raised, and the warnings; empty where there is none of them."""
        result, fault = None, None
        try:
            result = do(*args)
        except Exception as error:
            fault = _sendable(error)
        warned, self._warned = self._warned, []
        if result is None and fault is None and not warned:
            return b""
        try:
            return pickle.dumps((result, fault, warned))
        except Exception as error:  # of a foreign object
            return pickle.dumps((None, _sendable(error), []))

    def _begin(self, place: int) -> None:
        """Tell which env is next, in case that it does not come back."""
        self._block.at[self._number] = place
        self._block.begun[self._number] += 1

    def _make(self) -> None:
        plan, share = self._plan, self._plan.shares[self._number]
        # Envs should not draw from the global generators; where they do, let no two workers draw the same.
        own = stream_seed(plan.seed, plan.env_indices[share[0]]) % 2**32
        random.seed(own)
        np.random.seed(own)  # noqa: NPY002
        for place in share:
            self._begin(place)
            self._envs[place] = TaskEnv(
                plan.suite,
                plan.start_tasks[place],
                seed=plan.seed,
                env_index=plan.env_indices[place],
                cycle=plan.cycle,
                render_mode=plan.render_mode,
            )
            self._block.steps[place] = 0

    def _step(self) -> Any:
        """Step all envs, and reset those whose episode ended.

        Returns:
            The last infos of episodes that ended, and what else of the infos does not fit into the block, both by
            place; None if there is nothing.
        """
        block = self._block
        finals: dict[int, dict[str, Any]] = {}
        odd: dict[int, dict[str, Any]] = {}
        actions = block.actions.copy()  # that envs may keep; those of Discrete are numbers anyway
        for place, env in self._envs.items():
            self._begin(place)
            block.steps[place] += 1
            obs, reward, terminated, truncated, info = env.step(actions[place])
            block.rewards[place] = reward
            block.terminated[place] = terminated
            block.truncated[place] = truncated
            if terminated or truncated:
                block.final_obs[place] = obs
                finals[place] = _sendable_info(info)
                block.steps[place] = 0
                obs, info = env.reset()
            block.obs[place] = obs
            self._tell(place, info, odd)
        return (finals, odd) if finals or odd else None

    def _tell(self, place: int, info: Mapping[str, Any], odd: dict[int, dict[str, Any]]) -> None:
        """Write the task and the wanted numbers of an info to the block, and to ``odd`` what is there but no number."""
        block = self._block
        block.task[place] = info["task"]
        for k, key in enumerate(self._plan.info_keys):
            value = info.get(key)
            number = None if isinstance(value, list | tuple) or getattr(value, "ndim", False) else as_number(value)
            block.told[k, place] = number is not None
            block.numbers[k, place] = 0.0 if number is None else number
            if key in info and number is None:
                odd.setdefault(place, {})[key] = value

    def reset(self, seeds: Mapping[int, int | None], options: dict[str, Any] | None) -> Any:
        """Start new episodes in some envs; gives the same as a step."""
        odd: dict[int, dict[str, Any]] = {}
        for place, env in self._envs.items():
            if place in seeds:
                self._begin(place)
                self._block.steps[place] = 0
                self._block.obs[place], info = env.reset(seed=seeds[place], options=options)
                self._tell(place, info, odd)
        return ({}, odd) if odd else None

    def call(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[int, Any]:
        """What a method of each env gives, or an attribute, by place."""
        found = {}
        for place, env in self._envs.items():
            self._begin(place)
            attribute = env.get_wrapper_attr(name)
            found[place] = attribute(*args, **kwargs) if callable(attribute) else attribute
        return found

    def set_states(self, states: Mapping[int, dict[str, Any]]) -> None:
        """Bring each env to its state, by place."""
        for place, env in self._envs.items():
            self._begin(place)
            env.set_state(states[place])
            self._block.obs[place], self._block.task[place] = env.last_obs, env.task
            self._block.steps[place] = env.steps

    def close(self) -> None:
        """Close the envs; the process ends after the answer."""
        self._open = False
        for place, env in self._envs.items():
            self._begin(place)
            env.close()

    def _warn(self, message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        self._warned.append((category, str(message)))


def _sendable(error: Exception) -> Exception:
    """An error that arrives whole at the parent, with its traceback as a note."""
    error.add_note("".join(traceback.format_exception(error)))
    if isinstance(error, EnvError | ConfigError | gym.error.Error):
        with suppress(Exception):
            pickle.loads(pickle.dumps(error))
            return error
    told = RuntimeError(f"{type(error).__name__}: {error}")
    told.__notes__ = error.__notes__
    return told


def _sendable_info(info: dict[str, Any]) -> dict[str, Any]:
    """An info without what cannot be sent."""
    try:
        pickle.dumps(info)
    except Exception:  # whatever a foreign object raises
        return {key: value for key, value in info.items() if _can_be_sent(value)}
    return info


def _can_be_sent(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:
        return False
    return True
