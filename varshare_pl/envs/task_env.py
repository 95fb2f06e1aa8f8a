"""The sub-env of Gymnasium's own vector envs: one env that may change its task at a reset."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from varshare_pl.envs.foreign_state import teller_of
from varshare_pl.envs.observations import as_dtype
from varshare_pl.envs.plain import NotPlainError, as_plain, from_plain
from varshare_pl.envs.seeding import SPACES, get_stream_state, new_stream, restore_stream, stream_seed
from varshare_pl.envs.spaces import draw_from, own_spaces
from varshare_pl.envs.tasks import TaskSuite
from varshare_pl.envs.values import as_flag, as_number, is_vector_key, kept, short
from varshare_pl.envs.wrapper_state import get_wrapper_states, set_wrapper_states
from varshare_pl.errors import ConfigError, EnvError

BEING_MADE = -1  # in place of a step
LARGEST_REWARD = float(np.finfo(np.float32).max)  # what is learned from is float32


def where(suite: TaskSuite, env_index: int, task: int, step: int) -> str:
    """The words for an env at a step of its episode, or BEING_MADE."""
    moment = "while it was made" if step == BEING_MADE else f"at step {step} of its episode"
    return f"env {env_index} (task {task}, {suite.tasks[task].name}) {moment}"


class TaskEnv(gym.Wrapper[Any, Any, Any, Any]):
    """One env of a suite; in a cycle it takes the next task at every reset after the first.

    ``info["task"]`` (int) is the task of the observation returned. All tasks draw from one random stream, and their
    spaces from another, so that a trajectory does not depend on which backend runs it. What it returns is its own: an
    env may go on with the arrays that it handed out.

    Args:
        suite: where the tasks come from.
        start_task: the first task.
        seed: of the run.
        env_index: the env's global index; with ``seed`` it gives the random stream of a first reset without a seed.
        cycle: whether to change the task at a reset. A reset with a seed goes back to the first task.
        render_mode: as in ``gymnasium.make``.
    """

    def __init__(
        self,
        suite: TaskSuite,
        start_task: int,
        *,
        seed: int = 0,
        env_index: int = 0,
        cycle: bool = False,
        render_mode: str | None = None,
    ) -> None:
        self._suite = suite
        self._render_mode = render_mode
        self._start_task = start_task
        self._cycle = cycle
        self._env_index = env_index
        self._steps = 0  # of the episode
        self._stream_seed = stream_seed(seed, env_index)
        self._space_stream = new_stream(stream_seed(self._stream_seed, SPACES))
        self._envs = {start_task: self._made(start_task)}
        super().__init__(self._envs[start_task])
        self.task = start_task
        self.last_obs: NDArray[Any] | None = None  # None until the first reset

    @property
    def steps(self) -> int:
        """Steps of the episode so far."""
        return self._steps

    def _made(self, task: int) -> gym.Env[Any, Any]:
        with self._fault(where(self._suite, self._env_index, task, BEING_MADE)):
            env = self._suite.make_task(task, self._render_mode)
        own_spaces(env)
        draw_from(env, self._space_stream)
        return env

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        if seed is None and self.last_obs is None:
            seed = self._stream_seed
        if seed is not None:
            self._space_stream = new_stream(stream_seed(seed, SPACES))
            self._switch(self._start_task)
        elif self._cycle:
            self._switch((self.task + 1) % self._suite.num_tasks)
        return self._begin(seed, options)

    def _begin(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start an episode of the current task."""
        self._steps = 0
        draw_from(self.env, self._space_stream)
        with self._fault():
            obs, info = self.env.reset(seed=seed, options=options)
        draw_from(self.env, self._space_stream)  # of spaces that the env made, or seeded, in its reset too
        self.last_obs = self._observed(obs)
        return self.last_obs.copy(), self._told(info)

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        self._steps += 1
        try:  # in place of the context manager, which takes as long as a small env
            obs, reward, terminated, truncated, info = self.env.step(action)
        except Exception as error:
            raise self._of(error) from error
        self.last_obs = self._observed(obs)
        flags = self._flag("terminated", terminated), self._flag("truncated", truncated)
        return self.last_obs.copy(), self._reward(reward), *flags, self._told(info)

    @contextmanager
    def _fault(self, place: str | None = None) -> Iterator[None]:
        """Say which env it was that raised; ``place``: where, if not here."""
        try:
            yield
        except ConfigError:
            raise
        except Exception as error:
            raise self._of(error, place) from error

    def _of(self, error: Exception, place: str | None = None) -> EnvError:
        text = " ".join(str(error).split())
        return EnvError(f"{place or self._here()} raised {type(error).__name__}: {text}")

    def _observed(self, obs: Any) -> NDArray[Any]:
        """A copy of an observation, as the suite's space has it."""
        space = self._suite.observation_space
        try:
            copy = as_dtype(obs, space.dtype)
        except (TypeError, ValueError):
            numbers = "numbers" if space.dtype.kind == "f" else f"integers in {space.dtype}"
            allowed = f"an array of {numbers} of shape {space.shape} is allowed"
            raise EnvError(f"{self._here()} gave the observation {short(obs)}; {allowed}") from None
        if copy.shape != space.shape:
            raise EnvError(f"{self._here()} gave an observation of shape {copy.shape}; {space.shape} is its space's")
        if not np.isfinite(copy).all():
            raise EnvError(f"{self._here()} gave an observation that is not finite in {copy.dtype}")
        return copy

    def _reward(self, reward: Any) -> float:
        number = as_number(reward)
        if number is None:
            raise EnvError(f"{self._here()} gave the reward {short(reward)}; a number is allowed")
        if not abs(number) <= LARGEST_REWARD:
            raise EnvError(f"{self._here()} gave the reward {number:g}; a finite number of float32 is allowed")
        return number

    def _flag(self, name: str, value: Any) -> bool:
        flag = as_flag(value)
        if flag is None:
            raise EnvError(f"{self._here()} gave {name} = {short(value)}; True or False is allowed")
        return flag

    def _told(self, info: Any) -> dict[str, Any]:
        """A copy of an info with the task, without what a vector env would take for its own."""
        if not isinstance(info, dict):
            raise EnvError(f"{self._here()} gave the info {short(info)}; a dict is allowed")
        return {key: kept(value) for key, value in info.items() if not is_vector_key(key)} | {"task": self.task}

    def _here(self) -> str:
        return where(self._suite, self._env_index, self.task, self._steps)

    def _switch(self, task: int) -> None:
        """Make ``task`` the current one and hand it the random stream."""
        if task == self.task:
            return
        stream = self.env.unwrapped.np_random
        self._make(task)
        self.task = task
        self.env = self._envs[task]
        self.env.unwrapped.np_random = stream
        self._cached_spec = None

    def _make(self, task: int) -> None:
        """See to it that a task's env is there."""
        if task not in self._envs:
            self._envs[task] = self._made(task)
            # Seeds what does not draw from np_random; the shared streams are not touched by it.
            draw_from(self._envs[task], new_stream(0))
            self._envs[task].reset(seed=self._stream_seed)

    def close(self) -> None:
        for env in self._envs.values():
            with self._fault():
                env.close()

    def get_state(self) -> dict[str, Any]:
        """What the next steps depend on, as plain data (see ``vector.get_state``).

        Raises:
            ResetNeeded: before the first reset.
            EnvError: if the env's own ``get_state`` gives what is no plain data.
        """
        if self.last_obs is None:
            raise gym.error.ResetNeeded("call reset before get_state")
        # Of a built-in suite nothing outlives an episode, and nothing draws from a space.
        built_in = self._suite.dynamics is not None
        envs = {self.task: self.env} if built_in else self._envs
        states = {task: self._state_of(env) for task, env in envs.items()}
        others = {str(task): state for task, state in states.items() if task != self.task}
        more = {} if built_in else {"spaces": get_stream_state(self._space_stream), "others": others}
        return {
            "task": self.task,
            "steps": self._steps,
            "obs": self.last_obs.tolist(),
            "rng": get_stream_state(self.env.unwrapped.np_random),
            "wrappers": states[self.task]["wrappers"],
            # If any task's env cannot tell its state, going on would not be exact.
            "env": None if any(state["env"] is None for state in states.values()) else states[self.task]["env"],
            **more,
        }

    def _state_of(self, env: gym.Env[Any, Any]) -> dict[str, Any]:
        """The states of an env's wrappers, and its own: None if one of them is not known."""
        wrappers, teller = get_wrapper_states(env), teller_of(env.unwrapped)
        if teller is None:
            return {"wrappers": wrappers, "env": None}
        with self._fault():
            state = teller.get_state()
        try:
            plain = as_plain(state)
        except NotPlainError as error:
            if not teller.own:  # a class derived from one that is known, with what is not
                return {"wrappers": wrappers, "env": None}
            raise EnvError(
                f"{self._here()} has a {error} in what its get_state gives; lists, dicts, numbers, strings and arrays "
                "are allowed"
            ) from None
        return {"wrappers": wrappers, "env": None if None in wrappers else plain}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on where ``get_state`` was called, or restart that episode if the env cannot tell its state."""
        for task, other in state.get("others", {}).items():
            self._make(int(task))
            self._set_state_of(self._envs[int(task)], other)
        self._switch(state["task"])
        self._set_state_of(self.env, state)
        self.env.unwrapped.np_random = restore_stream(state["rng"])
        if "spaces" in state:
            self._space_stream = restore_stream(state["spaces"])
        draw_from(self.env, self._space_stream)
        if state["env"] is None:
            self._begin()
            return
        self._steps = state["steps"]
        self.last_obs = np.array(state["obs"], dtype=self._suite.observation_space.dtype)

    def _set_state_of(self, env: gym.Env[Any, Any], state: dict[str, Any]) -> None:
        env.reset(seed=self._stream_seed)  # the wrappers step only after a reset; its draws do not count
        set_wrapper_states(env, state["wrappers"])
        teller = teller_of(env.unwrapped)
        if teller is not None and state["env"] is not None:
            with self._fault():
                teller.set_state(from_plain(state["env"]))
