"""Steps the envs with a policy and writes down what happened: one fixed-horizon rollout at a time."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, cast

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from varshare_pl.envs import final_observations, get_state, set_state
from varshare_pl.envs.episodes import RunningEpisodes
from varshare_pl.envs.success import SuccessMeasure
from varshare_pl.errors import EnvError
from varshare_pl.networks.actor_critic import check_finite
from varshare_pl.networks.groups import TaskGroups
from varshare_pl.parallel import rank
from varshare_pl.rollout.digits import Digits
from varshare_pl.types import Episodes, Rollout

if TYPE_CHECKING:
    from varshare_pl.envs.torch_backend import TorchVectorEnv
    from varshare_pl.rollout.chunks import Steps


class ActingPolicy(Protocol):
    """What the collector needs of a policy; ``varshare_pl.learning.acting.ActingPolicy`` is one."""

    def draw_noise(self, steps: int, envs: int) -> Tensor:
        """Noise for all actions of a rollout, (steps, envs, K)."""
        ...

    def act(self, obs: Tensor, groups: TaskGroups, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions and distribution parameters for observations (N, *obs)."""
        ...

    def to_env(self, actions: Tensor) -> Tensor:
        """What the envs get for actions (N, *action)."""
        ...


class Collector:
    """Collects rollouts from a vector env; episodes go on from one rollout to the next.

    Args:
        envs: A Gymnasium vector env with SAME_STEP autoreset whose info tells the task of each observation.
        num_tasks: M.
        info_metrics: Scalars of an episode's last info to record, e.g. "success".
        total_envs: Envs of the run over all processes; None: all are here.
        first_env: Global index of the first env here.
        compiled: Act and step as machine code, where envs and policy allow it.
        obs_dtype: In which the policy reads observations.
        success: What counts as success; None: the return.
    """

    def __init__(
        self,
        envs: gymnasium.vector.VectorEnv[Any, Any, Any],
        num_tasks: int,
        info_metrics: Sequence[str] = (),
        total_envs: int | None = None,
        first_env: int = 0,
        compiled: bool = False,
        obs_dtype: np.dtype[Any] | None = None,
        success: SuccessMeasure | None = None,
    ) -> None:
        self._envs = envs
        self._compile = compiled
        self._acting: Any = None
        self._num_tasks = num_tasks
        self._obs: NDArray[np.floating[Any]] | None = None
        self._obs_dtype = np.dtype(np.float32) if obs_dtype is None else obs_dtype
        space = envs.single_observation_space
        rounds = space.dtype == np.float64 and self._obs_dtype == np.float32
        self._digits = Digits(num_tasks, space.shape or ()) if rounds else None
        self._told_missing = False
        self._task = np.zeros(envs.num_envs, np.int64)
        self._groups: TaskGroups | None = None
        self._running = RunningEpisodes(envs.num_envs, self._where, success, info_metrics)
        self._total_envs = envs.num_envs if total_envs is None else total_envs
        self._here = slice(first_env, first_env + envs.num_envs)
        self.env_steps = 0  # over all processes
        self._whole: dict[str, Any] | None = None

    def collect(self, policy: ActingPolicy, steps: int, index: int) -> Rollout:
        """Act for a number of steps in every env.

        Args:
            policy: Acts; its weights stand still meanwhile.
            steps: T.
            index: Count of this rollout in the run.
        """
        start = time.perf_counter()
        if self._obs is None:
            with self._env_fault(0):
                obs, info = self._envs.reset()
            self._observe(obs, info)
        self._whole = self._state()  # to go on from, should an env fail midway
        noise = policy.draw_noise(steps, self._total_envs)[:, self._here]
        acting = self._compiled(policy)
        played = self._step_by_step(policy, noise) if acting is None else self._in_chunks(acting, policy, noise)
        self.env_steps += steps * self._total_envs
        self._whole = None
        self._complain()
        assert self._obs is not None
        return Rollout(
            index=index,
            env_steps=self.env_steps,
            **played,
            noise=noise,
            last_obs=torch.from_numpy(self._obs.copy()),
            last_task=torch.from_numpy(self._task.copy()),
            seconds=time.perf_counter() - start,
        )

    def _step_by_step(self, policy: ActingPolicy, noise: Tensor) -> dict[str, Any]:
        assert self._obs is not None
        steps, n, obs_shape = len(noise), self._envs.num_envs, self._obs.shape[1:]
        observations = np.empty((steps, n, *obs_shape), self._obs_dtype)
        final_obs = np.zeros_like(observations)
        tasks = np.empty((steps, n), np.int64)
        rewards = np.empty((steps, n), np.float32)
        terminated, truncated = np.empty((steps, n), np.bool_), np.empty((steps, n), np.bool_)
        actions, params = [], []
        ended: list[dict[str, NDArray[Any]]] = []
        for t, step_noise in enumerate(noise.unbind()):
            observations[t] = self._obs
            tasks[t] = self._task
            action, distribution = policy.act(torch.from_numpy(self._obs), self._task_groups(), step_noise)
            check_finite(action, torch.from_numpy(self._task))
            actions.append(action)
            params.append(distribution)
            sent = policy.to_env(action).numpy()
            with self._env_fault(t):
                obs, reward, terminated[t], truncated[t], info = self._envs.step(sent)
            rewards[t] = reward
            done = terminated[t] | truncated[t]
            self._running.step(reward, info, done)
            if done.any():
                final_obs[t] = final_observations(info, obs)[0]
                ended.append({"task": self._task[done], **self._running.end(done, info)})
            self._observe(obs, info)
        return {
            "obs": torch.from_numpy(observations),
            "task": torch.from_numpy(tasks),
            "actions": torch.stack(actions),
            "dist_params": torch.stack(params),
            "rewards": torch.from_numpy(rewards),
            "terminated": torch.from_numpy(terminated),
            "truncated": torch.from_numpy(truncated),
            "final_obs": torch.from_numpy(final_obs),
            "episodes": self._episodes(ended),
        }

    def _compiled(self, policy: Any) -> Any:
        """Compiled acting, where it is wanted and possible: with envs in torch, each of which keeps its task."""
        if not (self._compile and policy.compilable) or getattr(self._envs, "cycle", True):
            return None
        if self._acting is None:
            from varshare_pl.rollout.chunks import CompiledActing

            self._acting = CompiledActing(cast("TorchVectorEnv", self._envs), self._task_groups())
        return self._acting

    def _in_chunks(self, acting: Any, policy: Any, noise: Tensor) -> dict[str, Any]:
        """The same steps, many in one call."""
        assert self._obs is not None
        running = self._running
        begin = (torch.from_numpy(values.copy()) for values in (self._obs, running.returns, running.lengths))
        with torch.no_grad():
            obs, steps = acting(policy, *begin, noise)
        task = torch.from_numpy(self._task).expand(len(noise), -1)
        check_finite(steps.actions.flatten(0, 1), task.flatten())
        self._obs = obs.numpy()
        return {
            "obs": steps.obs,
            "task": task.contiguous(),
            "actions": steps.actions,
            "dist_params": steps.params,
            "rewards": steps.rewards,
            "terminated": steps.terminated,
            "truncated": steps.truncated,
            "final_obs": steps.final_obs,
            "episodes": self._episodes(self._ended(steps)),
        }

    def _ended(self, steps: Steps) -> list[dict[str, NDArray[Any]]]:
        """What the episodes came to that ended in compiled steps, one item a step that ended any."""
        envs, ended = cast("TorchVectorEnv", self._envs), []
        over = (steps.terminated | steps.truncated).numpy()
        returns, lengths = steps.returns.numpy(), steps.lengths.numpy()
        # Success may be measured at every step; else only ends matter, and the last step, from where the next goes on.
        matters = np.full(len(over), self._running.success is not None) | over.any(axis=1)
        matters[-1] = True
        for t in np.flatnonzero(matters):
            done = over[t]
            ended_task = np.where(done, self._task, 0)
            info = envs.told_info(done, steps.final_obs[t].numpy(), ended_task, steps.told[t].numpy())
            self._running.set_step(returns[t], lengths[t], info, done)
            if done.any():
                ended.append({"task": self._task[done], **self._running.end(done, info)})
        return ended

    def get_state(self) -> dict[str, Any]:
        """All that the next rollout depends on, as plain data: envs with their streams, episodes under way, counters.

        If an env failed midway through a rollout, the state before that rollout.
        """
        return self._state() if self._whole is None else self._whole

    def _state(self) -> dict[str, Any]:
        return {
            "envs": get_state(self._envs)["envs"],
            **self._running.get_state(),
            "env_steps": self.env_steps,
        }

    def set_state(self, state: dict[str, Any]) -> int:
        """Go on where ``get_state`` was called.

        Returns:
            The number of envs that cannot tell their state and start a new episode instead.
        """
        obs, task = set_state(self._envs, {"envs": state["envs"]})
        self._observe(obs, {"task": task})
        self.env_steps = state["env_steps"]
        restarted = np.array([env["env"] is None for env in state["envs"]])
        self._running.set_state(state, restarted)
        return int(restarted.sum())

    def close(self) -> None:
        """Close the envs; one that failed midway through a rollout has said what there is to say."""
        try:
            self._envs.close()
        except Exception:
            if self._whole is None:
                raise
        finally:
            self._envs.closed = True

    @contextmanager
    def _env_fault(self, step: int) -> Iterator[None]:
        """Turn what a vector env raises into one line; sub-envs that raise say themselves which one it was."""
        try:
            yield
        except EnvError:
            raise
        except Exception as error:
            where = f"at step {step} of the rollout, env step {self.env_steps}"
            raise EnvError(f"an env raised {type(error).__name__}: {error} {where}") from error

    def _observe(self, obs: NDArray[Any], info: Mapping[str, Any]) -> None:
        self._obs = np.array(obs, self._obs_dtype)
        task = np.asarray(info["task"], np.int64)
        if self._digits is not None:
            self._digits.see(obs, task)
        if self._groups is None or not np.array_equal(task, self._task):
            self._task, self._groups = task.copy(), None

    def _task_groups(self) -> TaskGroups:
        if self._groups is None:
            self._groups = TaskGroups.from_rows(torch.from_numpy(self._task), self._num_tasks)
        return self._groups

    def _episodes(self, ended: list[dict[str, NDArray[Any]]]) -> Episodes:
        names = ("task", *self._running.columns)
        columns = {name: np.concatenate([np.zeros(0), *(rows[name] for rows in ended)]) for name in names}
        task, returns, lengths, *more = (torch.from_numpy(column) for column in columns.values())
        info = dict(zip(names[3:], more, strict=True))
        success = None if self._running.success is None else info.pop("success")
        return Episodes(task.long(), returns, lengths.long(), info, success)

    def _complain(self) -> None:
        """Warn of what spoils the numbers of a run, each once."""
        complaint = None if self._digits is None else self._digits.complaint()
        if complaint is not None:
            self._digits = None
            if rank() == 0:
                warnings.warn(complaint, stacklevel=3)
        success = self._running.success
        if success is not None and success.instead is not None and not self._told_missing:
            self._told_missing = True
            if rank() == 0:
                warnings.warn(success.complaint("training"), stacklevel=3)

    def _where(self, i: int) -> str:
        env, task, step = self._here.start + i, self._task[i], self._running.lengths[i]
        return f"env {env} (task {task}) at step {step} of its episode"
