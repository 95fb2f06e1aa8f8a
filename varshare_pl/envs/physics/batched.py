"""Many envs as arrays: one NumPy call steps them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from varshare_pl.envs.physics.actions import Actions
from varshare_pl.envs.physics.dynamics import (
    Dynamics,
    FloatArray,
    FloatObs,
    Values,
    as_rows,
    row_type,
    write_observations,
)
from varshare_pl.envs.physics.pool import Ids, ResetPool
from varshare_pl.envs.physics.rendering import Screen
from varshare_pl.envs.seeding import new_stream, restore_stream, spread_seeds, stream_seed
from varshare_pl.errors import ConfigError

Bools = NDArray[np.bool_]
NO_LIMIT = np.iinfo(np.int64).max


class BatchedVectorEnv(VectorEnv[FloatObs, NDArray[Any], Any]):
    """N envs over one ``Dynamics``, each with its own task, physics and random stream.

    An env that is done is reset in the same step (``AutoresetMode.SAME_STEP``): the observation returned is the next
    episode's first one, and ``info`` holds

    - ``task``, (N,) int64: the task of the observation returned;
    - after a step: each number of the dynamics' ``info_names``, (N,) float64, where the episode goes on;
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
        # Arrays of no dimensions, because NumPy takes half as long with them as with numbers.
        self._limit = np.array(NO_LIMIT if dynamics.max_episode_steps is None else dynamics.max_episode_steps)
        self._one = np.array(1)
        self._obs_shape = (n, *dynamics.observation_space.shape)
        self._row = row_type(dynamics)
        self._actions = Actions(dynamics.action_space, n)
        self._all = np.ones(n, dtype=np.bool_)
        self._pool: ResetPool | None = None  # until the first reset
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
        seeds = spread_seeds(seed, self.num_envs)
        mask = (options or {}).get("reset_mask", self._all)
        if self._pool is None:
            self._pool = ResetPool(self.dynamics, [new_stream(s) for s in self._seeds])
            advance = np.zeros(self.num_envs, dtype=np.bool_)
        else:
            advance = mask & np.array([s is None for s in seeds])
        for i, env_seed in enumerate(seeds):
            if env_seed is not None and mask[i]:
                self._pool.replace(i, new_stream(env_seed))
                self._set_tasks(np.array([i]), self._start_tasks[i : i + 1])
        self._restart(self._pool, np.flatnonzero(mask), np.flatnonzero(advance))
        return self._observe(), self._info()

    def step(self, actions: NDArray[Any]) -> tuple[FloatObs, FloatArray, Bools, Bools, dict[str, Any]]:
        """Step all envs; ``actions`` is (N, *action). Rewards are float64, as in Gymnasium's vector envs."""
        if self._pool is None:
            raise gym.error.ResetNeeded("call reset before step")
        n, values = self.num_envs, self._actions.set(actions)
        self._state, reward, ended = self.dynamics.step(self._state, values, self._params)
        rewards, terminated = np.empty(n), np.empty(n, dtype=np.bool_)
        rewards[:] = reward
        terminated[:] = ended
        np.add(self._steps, self._one, self._steps)
        truncated = np.greater_equal(self._steps, self._limit)
        done = np.logical_or(terminated, truncated)
        obs = self._observe()
        told = self._told()
        (ids,) = done.nonzero()
        if not len(ids):
            return obs, rewards, terminated, truncated, {**self._info(), **masked(told, self._all)}
        rows = as_rows(obs, self._row)
        final_task, final_obs = np.zeros(n, dtype=np.int64), np.zeros(self._obs_shape, dtype=np.float32)
        final_task[ids] = self._tasks[ids]
        as_rows(final_obs, self._row)[ids] = rows[ids]
        rows[ids] = self._restart(self._pool, ids, ids)
        info = {**self._info(), **masked(told, ~done), **final_info(done, final_obs, final_task, told)}
        return obs, rewards, terminated, truncated, info

    def _restart(self, pool: ResetPool, ids: Ids, advance: Ids) -> NDArray[np.void]:
        """Start new episodes in the envs ``ids``; in a cycle those in ``advance`` take their next task.

        Returns:
            Their first observations as rows, (len(ids),).
        """
        if self.cycle and len(advance):
            self._set_tasks(advance, (self._tasks[advance] + 1) % self.dynamics.num_tasks)
        fresh, obs_rows = pool.take(ids)
        for row, values in zip(self._state, fresh, strict=True):
            row[ids] = values
        self._steps[ids] = 0
        return obs_rows

    def _set_tasks(self, ids: NDArray[np.int64], tasks: NDArray[np.int64]) -> None:
        self._tasks[ids] = tasks
        self._param_rows[:, ids] = self.dynamics.table.take(tasks, axis=1)

    def _observe(self) -> FloatObs:
        obs: FloatObs = np.empty(self._obs_shape, dtype=np.float32)
        write_observations(self.dynamics, self._state, obs)
        return obs

    def _told(self) -> dict[str, FloatArray]:
        """What the dynamics tell of the step that was just taken, before any reset."""
        names = self.dynamics.info_names
        if not names:
            return {}
        values = self.dynamics.info(self._state, self._params)
        return {name: np.full(self.num_envs, value, np.float64) for name, value in zip(names, values, strict=True)}

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
        if self._pool is None:
            raise gym.error.ResetNeeded("call reset before get_state")
        streams = self._pool.stream_states()
        return {"envs": [self._one_state(i, obs, streams[i]) for i, obs in enumerate(self._observe().tolist())]}

    def _one_state(self, i: int, obs: list[float], rng: dict[str, Any]) -> dict[str, Any]:
        return {
            "task": int(self._tasks[i]),
            "steps": int(self._steps[i]),
            "obs": obs,
            "rng": rng,
            # As a single env's: all that is remembered around its physics is the count of its time limit.
            "wrappers": [{"_elapsed_steps": int(self._steps[i])}] if self.dynamics.max_episode_steps else [],
            "env": {"state": [float(row[i]) for row in self._state], "rng": rng},
        }

    def set_state(self, state: dict[str, Any]) -> tuple[FloatObs, NDArray[np.int64]]:
        """Go on exactly where ``get_state`` was called.

        Returns:
            The current observations, (N, D) float32, and their tasks, (N,) int64.
        """
        self._pool = ResetPool(self.dynamics, [restore_stream(env["rng"]) for env in state["envs"]])
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


def final_info(
    done: Bools, obs: FloatObs, task: NDArray[np.int64], told: Mapping[str, FloatArray] | None = None
) -> dict[str, Any]:
    """What ``info`` tells of episodes that ended: last observations (N, D), tasks (N,), the last step's numbers."""
    return {
        "final_obs": obs,
        "_final_obs": done,
        "final_info": {"task": task, "_task": done.copy(), **masked(told or {}, done)},
        "_final_info": done.copy(),
    }


def masked(told: Mapping[str, FloatArray], where: Bools) -> dict[str, Any]:
    """Numbers (N,) of an info with their masks, 0 elsewhere."""
    info: dict[str, Any] = {}
    for name, values in told.items():
        info |= {name: np.where(where, values, 0.0), f"_{name}": where.copy()}
    return info
