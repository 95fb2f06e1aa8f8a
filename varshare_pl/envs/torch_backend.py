"""Many envs as tensors: a step is one pure function, so that a whole chunk of steps can be compiled as one graph."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from varshare_pl.envs.physics.batched import BatchedVectorEnv, Bools, final_info, masked
from varshare_pl.envs.physics.dynamics import Dynamics, FloatArray, FloatObs, Value, Values

REFILL = 16  # steps of ``TorchVectorEnv.step`` between two looks at what is left of the drawn states


class EnvState(NamedTuple):
    """All that a transition depends on. Nothing in it is ever changed in place."""

    physics: tuple[Tensor, ...]  # S × (N,) float64
    steps: Tensor  # (N,) int64, of the episode
    task: Tensor  # (N,) int64
    params: Tensor  # (P, N) float64, the columns of the dynamics' table
    fresh: Tensor  # (K, N, S) float64, the first states of each env's coming episodes
    used: Tensor  # (N,) int64, how many of them were taken


class StepResult(NamedTuple):
    """What one transition gives."""

    obs: Tensor  # (N, D) float32, what the policy sees next: after an end the first of the next episode
    reward: Tensor  # (N,) float64
    terminated: Tensor  # (N,) bool
    truncated: Tensor  # (N,) bool
    final_obs: Tensor  # (N, D) float32, the last observation of an episode that ended, else 0
    task: Tensor  # (N,) int64, the task of ``obs``
    ended_task: Tensor  # (N,) int64, the task of an episode that ended, else 0
    told: Tensor  # (K, N) float64, the numbers of the dynamics' ``info_names``, of the step itself


def transition(
    dynamics: Dynamics, table: Tensor, state: EnvState, action: Tensor, *, cycle: bool = False
) -> tuple[EnvState, StepResult]:
    """Step all envs and reset those that are done; a pure function without control flow that depends on data.

    Args:
        dynamics: the physics of all tasks.
        table: (P, M) float64, the dynamics' table on the device of the state.
        state: with at least one of its ``fresh`` states left for every env; ``TorchVectorEnv.refill`` sees to it.
        action: (N, *action), integers from 0 on or floats; not checked.
        cycle: whether an env takes the next task at every reset.
    """
    values = action if action.dim() == 1 else _values(action)
    moved, reward, ended = dynamics.step(state.physics, values, tuple(state.params.unbind()), torch)
    steps = state.steps + 1
    terminated = _spread(ended, steps, torch.bool)
    limit = dynamics.max_episode_steps
    truncated = torch.zeros_like(terminated) if limit is None else steps >= limit
    done = terminated | truncated

    told = [_spread(value, steps, torch.float64) for value in dynamics.info(moved, state.params.unbind(), torch)]
    index = state.used[None, :, None].expand(1, -1, state.fresh.shape[2])
    first = state.fresh.gather(0, index)[0].unbind(1)
    physics = tuple(torch.where(done, new, old) for new, old in zip(first, moved, strict=True))
    task, params = state.task, state.params
    if cycle:
        task = torch.where(done, (task + 1) % table.shape[1], task)
        params = table[:, task]
    after = EnvState(physics, torch.where(done, 0, steps), task, params, state.fresh, state.used + done)
    return after, StepResult(
        obs=_observe(dynamics, physics, steps),
        reward=_spread(reward, steps, torch.float64),
        terminated=terminated,
        truncated=truncated,
        final_obs=torch.where(done[:, None], _observe(dynamics, moved, steps), 0.0),
        task=task,
        ended_task=torch.where(done, state.task, 0),
        told=torch.stack(told) if told else torch.zeros(0, len(steps), dtype=torch.float64, device=steps.device),
    )


def _values(action: Tensor) -> Values:
    """Actions (N, A) as A values."""
    return (action.double() if action.is_floating_point() else action).unbind(1)


def _observe(dynamics: Dynamics, physics: Values, like: Tensor) -> Tensor:
    return torch.stack([_spread(value, like, torch.float32) for value in dynamics.observe(physics, torch)], dim=1)


def _spread(value: Value, like: Tensor, dtype: torch.dtype) -> Tensor:
    """A value for each env; the physics gives a plain number where it is the same for all."""
    return value.to(dtype) if isinstance(value, Tensor) else torch.full_like(like, value, dtype=dtype)


class TorchVectorEnv(BatchedVectorEnv):
    """The envs of ``BatchedVectorEnv`` with their steps in torch; the same trajectories, infos and saved states.

    States are equal up to the last digits: ``sin``, ``cos`` and ``sqrt`` of NumPy and of torch round differently.

    ``step`` is for everyday use. A collector that compiles acting and stepping into one graph goes on by itself::

        envs.refill(steps)
        state = envs.env_state
        for _ in range(steps):
            state, result = envs.transition(state, action)
        envs.env_state = state

    Args:
        dynamics: the physics of all tasks.
        start_tasks: (N,) the first task of each env.
        env_indices: (N,) the global index of each env, which together with ``seed`` gives its random stream.
        cycle: whether an env takes the next task at every reset, or keeps its own.
        seed: of the run.
        render_mode: None or "rgb_array".
        device: where the tensors are.
    """

    def __init__(
        self,
        dynamics: Dynamics,
        start_tasks: Sequence[int],
        *,
        env_indices: Sequence[int] | None = None,
        cycle: bool = False,
        seed: int = 0,
        render_mode: str | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(
            dynamics, start_tasks, env_indices=env_indices, cycle=cycle, seed=seed, render_mode=render_mode
        )
        self.device = torch.device(device)
        self.transition = partial(transition, dynamics, torch.tensor(dynamics.table, device=self.device), cycle=cycle)
        # Resets and saved states are the arrays' business: they are brought up to date before, and are the truth
        # afterwards, until the next step makes tensors of them.
        self._tensors: EnvState | None = None
        self._left = 0  # at least so many unused states are there for every env

    @property
    def env_state(self) -> EnvState:
        """What ``transition`` goes on from.

        Set it to go on from what ``transition`` returned. It must come from the ``env_state`` after the latest
        ``refill``, ``step``, ``reset`` or ``set_state``; its ``fresh`` is not looked at.

        Raises:
            ResetNeeded: before the first reset.
        """
        if self._pool is None:
            raise gym.error.ResetNeeded("call reset before step")
        if self._tensors is None:
            self._tensors = EnvState(
                physics=tuple(self._tensor(row) for row in self._state),
                steps=self._tensor(self._steps),
                task=self._tensor(self._tasks),
                params=self._tensor(self._param_rows),
                fresh=self._tensor(np.moveaxis(self._pool.fresh, 0, -1)),
                used=self._tensor(self._pool.used),
            )
        return self._tensors

    @env_state.setter
    def env_state(self, state: EnvState) -> None:
        self._tensors = state._replace(fresh=self.env_state.fresh)
        self._left = 0

    def refill(self, steps: int) -> None:
        """See to it that ``steps`` transitions can follow: that many first states are drawn for every env."""
        state = self.env_state
        assert self._pool is not None
        self._pool.used = _array(state.used)
        if self._pool.refill(steps):
            fresh = self._tensor(np.moveaxis(self._pool.fresh, 0, -1))
            self._tensors = state._replace(fresh=fresh, used=self._tensor(self._pool.used))
        self._left = steps

    def step(self, actions: NDArray[Any]) -> tuple[FloatObs, FloatArray, Bools, Bools, dict[str, Any]]:
        """Step all envs; ``actions`` is (N, *action). Takes and gives arrays, as every backend does."""
        if not self._left:
            self.refill(REFILL)
        self._actions.set(actions)
        self._tensors, result = self.transition(self.env_state, self._tensor(self._actions.array.T))
        self._left -= 1
        obs, reward, terminated, truncated, final_obs, task, ended_task, told = map(_array, result)
        info: dict[str, Any] = {"task": task.copy(), "_task": self._all.copy()}  # the state shares the task's memory
        info |= self.told_info(terminated | truncated, final_obs, ended_task, told)
        return obs, reward, terminated, truncated, info

    def told_info(
        self, done: Bools, final_obs: FloatObs, ended_task: NDArray[np.int64], told: FloatArray
    ) -> dict[str, Any]:
        """What ``info`` holds after a step beside the tasks; the arguments are those of ``StepResult``."""
        numbers = dict(zip(self.dynamics.info_names, told, strict=True))
        info = masked(numbers, ~done)
        return info | final_info(done, final_obs, ended_task, numbers) if done.any() else info

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatObs, dict[str, Any]]:
        self._update_arrays()
        self._forget_tensors()
        return super().reset(seed=seed, options=options)

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        self._update_arrays()
        return super().render()

    def get_state(self) -> dict[str, Any]:
        self._update_arrays()
        return super().get_state()

    def set_state(self, state: dict[str, Any]) -> tuple[FloatObs, NDArray[np.int64]]:
        self._forget_tensors()
        return super().set_state(state)

    def _update_arrays(self) -> None:
        if self._tensors is None or self._pool is None:
            return
        for row, values in zip(self._state, self._tensors.physics, strict=True):
            row[:] = _array(values)
        self._steps[:] = _array(self._tensors.steps)
        self._set_tasks(np.arange(self.num_envs), _array(self._tensors.task))
        self._pool.used = _array(self._tensors.used)

    def _forget_tensors(self) -> None:
        self._tensors, self._left = None, 0

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        """A copy, in C order whatever the array's."""
        return torch.tensor(np.ascontiguousarray(array), device=self.device)


def _array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.cpu().numpy()
    return array
