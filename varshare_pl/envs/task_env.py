"""The sub-env of Gymnasium's own vector envs: one env that may change its task at a reset."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit
from numpy.typing import NDArray

from varshare_pl.envs.seeding import get_stream_state, restore_stream, stream_seed
from varshare_pl.envs.tasks import CommonBox, TaskSuite
from varshare_pl.errors import EnvError

# Wrappers whose state is known, so that an env inside them can be resumed exactly.
_KNOWN_WRAPPERS = (TimeLimit, OrderEnforcing, PassiveEnvChecker, CommonBox)


class TaskEnv(gym.Wrapper[Any, Any, Any, Any]):
    """One env of a suite; in a cycle it takes the next task at every reset after the first.

    ``info["task"]`` (int) is the task of the observation returned. All tasks draw from one random stream, so that a
    trajectory does not depend on which backend runs it.

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
        self._steps = 0  # of the episode, for messages
        self._stream_seed = stream_seed(seed, env_index)
        self._envs = {start_task: suite.make_task(start_task, render_mode)}
        super().__init__(self._envs[start_task])
        self.task = start_task
        self.last_obs: NDArray[np.float32] | None = None  # None until the first reset

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        if seed is None and self.last_obs is None:
            seed = self._stream_seed
        if seed is not None:
            self._switch(self._start_task)
        elif self._cycle:
            self._switch((self.task + 1) % self._suite.num_tasks)
        self._steps = 0
        with self._fault():
            obs, info = self.env.reset(seed=seed, options=options)
        self._check(obs, 0.0)
        self.last_obs = obs
        return obs, {**info, "task": self.task}

    def step(self, action: Any) -> tuple[NDArray[np.float32], Any, bool, bool, dict[str, Any]]:
        self._steps += 1
        with self._fault():
            obs, reward, terminated, truncated, info = self.env.step(action)
        self._check(obs, reward)
        self.last_obs = obs
        return obs, reward, terminated, truncated, {**info, "task": self.task}

    @contextmanager
    def _fault(self) -> Iterator[None]:
        """Say which env it was that raised."""
        try:
            yield
        except Exception as error:
            raise EnvError(f"{self._here()} raised {type(error).__name__}: {error}") from error

    def _check(self, obs: Any, reward: Any) -> None:
        shape = self.observation_space.shape
        if np.shape(obs) != shape:
            raise EnvError(f"{self._here()} gave an observation of shape {np.shape(obs)}; {shape} is its space's")
        if not (np.isfinite(obs).all() and np.isfinite(reward)):
            raise EnvError(f"{self._here()} gave an observation or reward that is not finite")

    def _here(self) -> str:
        name = self._suite.tasks[self.task].name
        return f"env {self._env_index} (task {self.task}, {name}) at step {self._steps} of its episode"

    def _switch(self, task: int) -> None:
        """Make ``task`` the current one and hand it the random stream."""
        if task == self.task:
            return
        stream = self.env.unwrapped.np_random
        if task not in self._envs:
            self._envs[task] = self._suite.make_task(task, self._render_mode)
            # Seeds what does not draw from np_random; the shared stream is not touched by it.
            self._envs[task].reset(seed=self._stream_seed)
        self.task = task
        self.env = self._envs[task]
        self.env.unwrapped.np_random = stream
        self._cached_spec = None

    def close(self) -> None:
        for env in self._envs.values():
            env.close()

    def get_state(self) -> dict[str, Any]:
        """What the next steps depend on, as plain data (see ``vector.get_state``).

        Raises:
            ResetNeeded: before the first reset.
        """
        if self.last_obs is None:
            raise gym.error.ResetNeeded("call reset before get_state")
        limit, core = self._time_limit(), self.env.unwrapped
        return {
            "task": self.task,
            "steps": None if limit is None else limit._elapsed_steps,
            "obs": self.last_obs.tolist(),
            "rng": get_stream_state(core.np_random),
            "env": core.get_state() if self._can_resume() else None,  # type: ignore[attr-defined]
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on where ``get_state`` was called, or restart that episode if the env cannot tell its state."""
        self._switch(state["task"])
        self.env.reset()  # the wrappers step only after a reset; its draws do not count
        core = self.env.unwrapped
        core.np_random = restore_stream(state["rng"])
        if state["env"] is None:
            self.last_obs, _ = self.env.reset()
            return
        core.set_state(state["env"])  # type: ignore[attr-defined]
        self.last_obs = np.array(state["obs"], dtype=np.float32)
        limit = self._time_limit()
        if limit is not None:
            limit._elapsed_steps = state["steps"]

    # As an attribute too: set_attr is the one way into the processes of an AsyncVectorEnv with a value for each env.
    @property
    def env_state(self) -> dict[str, Any] | None:
        return None if self.last_obs is None else self.get_state()

    @env_state.setter
    def env_state(self, state: dict[str, Any]) -> None:
        self.set_state(state)

    def _layers(self) -> Iterator[gym.Env[Any, Any]]:
        """The wrappers inside, from the outermost to the env itself."""
        env: gym.Env[Any, Any] = self.env
        while isinstance(env, gym.Wrapper):
            yield env
            env = env.env
        yield env

    def _time_limit(self) -> Any:
        return next((layer for layer in self._layers() if isinstance(layer, TimeLimit)), None)

    def _can_resume(self) -> bool:
        *wrappers, core = self._layers()
        known = all(type(wrapper) in _KNOWN_WRAPPERS for wrapper in wrappers)
        return known and hasattr(core, "get_state") and hasattr(core, "set_state")
