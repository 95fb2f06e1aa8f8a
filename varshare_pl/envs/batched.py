"""Many envs as arrays: one NumPy call steps them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from varshare_pl.envs.dynamics import Dynamics, FloatArray, Values
from varshare_pl.envs.rendering import Screen
from varshare_pl.envs.seeding import get_stream_state, new_stream, restore_stream, stream_seed
from varshare_pl.errors import ConfigError

FloatObs = NDArray[np.float32]
Bools = NDArray[np.bool_]
NO_LIMIT = np.iinfo(np.int64).max


class BatchedVectorEnv(VectorEnv[FloatObs, NDArray[np.int64], Any]):
    """N envs over one ``Dynamics``, each with its own task, physics and random stream.

    An env that is done is reset in the same step (``AutoresetMode.SAME_STEP``): the observation returned is the next
    episode's first one, and ``info`` holds

    - ``task``, (N,) int64: the task of the observation returned;
    - after a step that ended an episode: ``final_obs``, (N, D) float32, the last observation where the mask
      ``_final_obs``, (N,) bool, is set and 0 elsewhere, and ``final_info``, with the ``task`` that ended.

    Args:
        dynamics: the physics of all tasks.
        start_tasks: (N,) the first task of each env.
        env_indices: (N,) the global index of each env, which together with ``seed`` gives its random stream.
        cycle: whether an env takes the next task at every reset, or keeps its own.
        seed: of the run.
        render_mode: None or "rgb_array".
    """

    _screen: Screen | None = None  # of the class, because close() also runs where the constructor raised

    def __init__(
        self,
        dynamics: Dynamics,
        start_tasks: Sequence[int],
        *,
        env_indices: Sequence[int] | None = None,
        cycle: bool = False,
        seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        if render_mode is not None and (render_mode != "rgb_array" or not dynamics.can_draw):
            raise ConfigError(f"render_mode={render_mode!r}: allowed in a batch: None, or 'rgb_array' if it draws")
        self.dynamics = dynamics
        self.cycle = cycle
        self.num_envs = n = len(start_tasks)
        self.metadata = {
            "autoreset_mode": AutoresetMode.SAME_STEP,
            "render_modes": ["rgb_array"] if dynamics.can_draw else [],
            "render_fps": dynamics.fps,
        }
        self.render_mode = render_mode
        self.single_observation_space = dynamics.observation_space
        self.single_action_space = dynamics.action_space
        self.observation_space = batch_space(self.single_observation_space, n)
        self.action_space = batch_space(self.single_action_space, n)
        self._start_tasks = np.array(start_tasks, dtype=np.int64)
        self._seeds = [stream_seed(seed, index) for index in (range(n) if env_indices is None else env_indices)]
        self._limit = NO_LIMIT if dynamics.max_episode_steps is None else dynamics.max_episode_steps
        self._num_actions = int(dynamics.action_space.n)
        self._obs_shape = (n, *dynamics.observation_space.shape)
        self._all = np.ones(n, dtype=np.bool_)
        self._rngs: list[np.random.Generator] = []  # empty until the first reset
        self._state: Values = tuple(np.zeros(n) for _ in range(dynamics.state_size))
        self._steps = np.zeros(n, dtype=np.int64)
        self._tasks = self._start_tasks.copy()
        self._param_rows: FloatArray = dynamics.table[:, self._tasks]
        self._params: Values = tuple(self._param_rows)  # views: writing to the rows changes them

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatObs, dict[str, Any]]:
        """Start new episodes.

        Args:
            seed: None goes on with the random streams, which at first come from the constructor's seed. An int gives
                env i the seed ``seed + i``, a list gives each env its own; an env with a seed starts again at its
                first task.
            options: ``reset_mask``, (N,) bool, resets only some envs.
        """
        seeds = _spread_seed(seed, self.num_envs)
        mask = (options or {}).get("reset_mask", self._all)
        if not self._rngs:
            self._rngs = [new_stream(s) for s in self._seeds]
            advance = np.zeros(self.num_envs, dtype=np.bool_)
        else:
            advance = mask & np.array([s is None for s in seeds])
        for i, env_seed in enumerate(seeds):
            if env_seed is not None and mask[i]:
                self._rngs[i] = new_stream(env_seed)
                self._set_tasks(np.array([i]), self._start_tasks[i : i + 1])
        self._restart(np.flatnonzero(mask), np.flatnonzero(advance))
        return self._observe(), self._info()

    def step(self, actions: NDArray[np.int64]) -> tuple[FloatObs, FloatArray, Bools, Bools, dict[str, Any]]:
        """Step all envs; ``actions`` is (N,) integers. Rewards are float64, as in Gymnasium's vector envs."""
        if not self._rngs:
            raise gym.error.ResetNeeded("call reset before step")
        if (actions := np.asarray(actions)).dtype.kind not in "iu":
            raise gym.error.InvalidAction(f"actions of type {actions.dtype}; allowed: integers")
        actions = actions.astype(np.int64, copy=False)
        # As unsigned numbers negative actions are huge: one comparison finds both kinds of error.
        if actions.shape != self._steps.shape or actions.view(np.uint64).max() >= self._num_actions:
            raise gym.error.InvalidAction(f"actions {actions!r} are not in {self.action_space}")
        self._state, reward, ended = self.dynamics.step(self._state, actions, self._params)
        rewards, terminated = np.empty(self.num_envs), np.empty(self.num_envs, dtype=np.bool_)
        rewards[:] = reward
        terminated[:] = ended
        self._steps += 1
        truncated = self._steps >= self._limit
        done = terminated | truncated
        obs = self._observe()
        if not done.any():
            return obs, rewards, terminated, truncated, self._info()
        obs, info = self._autoreset(obs, done)
        return obs, rewards, terminated, truncated, info

    def _autoreset(self, obs: FloatObs, done: Bools) -> tuple[FloatObs, dict[str, Any]]:
        final_info = {"task": self._tasks * done, "_task": done}
        ids = np.flatnonzero(done)
        self._restart(ids, ids)
        obs[~done] = 0
        final = {"final_obs": obs, "_final_obs": done.copy(), "final_info": final_info, "_final_info": done.copy()}
        return self._observe(), {**self._info(), **final}

    def _restart(self, ids: NDArray[np.int64], advance: NDArray[np.int64]) -> None:
        """Start new episodes in the envs ``ids``; in a cycle those in ``advance`` take their next task."""
        if self.cycle and len(advance):
            self._set_tasks(advance, (self._tasks[advance] + 1) % self.dynamics.num_tasks)
        fresh = np.array([self.dynamics.initial_state(self._rngs[i]) for i in ids.tolist()])
        for s, row in enumerate(self._state):
            row[ids] = fresh[:, s]
        self._steps[ids] = 0

    def _set_tasks(self, ids: NDArray[np.int64], tasks: NDArray[np.int64]) -> None:
        self._tasks[ids] = tasks
        self._param_rows[:, ids] = self.dynamics.table[:, tasks]

    def _observe(self) -> FloatObs:
        obs = np.empty(self._obs_shape, dtype=np.float32)
        for d, component in enumerate(self.dynamics.observe(self._state)):
            obs[:, d] = component
        return obs

    def _info(self) -> dict[str, Any]:
        return {"task": self._tasks.copy(), "_task": self._all.copy()}

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """One image (H, W, 3) an env."""
        if self.render_mode is None:
            return None
        if self._screen is None:
            self._screen = Screen(self.render_mode, self.dynamics.fps)
        return tuple(self._frame(self._screen, i) for i in range(self.num_envs))

    def _frame(self, screen: Screen, i: int) -> NDArray[np.uint8]:
        state = tuple(float(row[i]) for row in self._state)
        params = tuple(self._param_rows[:, i].tolist())
        frame = screen.show(lambda canvas: self.dynamics.draw(canvas, state, params))
        assert frame is not None
        return frame

    def get_state(self) -> dict[str, Any]:
        """Everything the next steps depend on, as plain data; the same layout in every backend.

        Raises:
            ResetNeeded: before the first reset.
        """
        if not self._rngs:
            raise gym.error.ResetNeeded("call reset before get_state")
        return {"envs": [self._env_state(i, obs) for i, obs in enumerate(self._observe().tolist())]}

    def _env_state(self, i: int, obs: list[float]) -> dict[str, Any]:
        rng = get_stream_state(self._rngs[i])
        return {
            "task": int(self._tasks[i]),
            "steps": int(self._steps[i]),
            "obs": obs,
            "rng": rng,
            "env": {"state": [float(row[i]) for row in self._state], "rng": rng},
        }

    def set_state(self, state: dict[str, Any]) -> tuple[FloatObs, NDArray[np.int64]]:
        """Go on exactly where ``get_state`` was called.

        Returns:
            The current observations, (N, D) float32, and their tasks, (N,) int64.
        """
        self._rngs = [restore_stream(env["rng"]) for env in state["envs"]]
        self._steps = np.array([env["steps"] for env in state["envs"]], dtype=np.int64)
        self._set_tasks(np.arange(self.num_envs), np.array([env["task"] for env in state["envs"]], dtype=np.int64))
        for i, env in enumerate(state["envs"]):
            for row, value in zip(self._state, env["env"]["state"], strict=True):
                row[i] = value
        return self._observe(), self._tasks.copy()

    def close_extras(self, **kwargs: Any) -> None:
        if self._screen is not None:
            self._screen.close()
            self._screen = None


def _spread_seed(seed: int | Sequence[int | None] | None, n: int) -> list[int | None]:
    """Gymnasium's rule: an int s gives env i the seed s + i."""
    if seed is None:
        return [None] * n
    if isinstance(seed, int | np.integer):
        return [int(seed) + i for i in range(n)]
    if len(seed) != n:
        raise ConfigError(f"seed={seed!r}: a list needs one seed for each of the {n} envs")
    return list(seed)
