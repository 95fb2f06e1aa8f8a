"""Trained policies: loaded from a run or a checkpoint, called with observations, exported. No Trainer, no Lightning."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from varshare_pl.checkpoints import CHECKPOINT_KEY, CONFIG_KEY, check_checkpoint, read_checkpoint
from varshare_pl.envs import TaskSuite
from varshare_pl.errors import ConfigError
from varshare_pl.networks.actor_critic import ActorCritic, check_finite
from varshare_pl.networks.groups import TaskGroups
from varshare_pl.paths import HUB, user_path
from varshare_pl.run_folder import CHECKPOINTS, CONFIG_FILE
from varshare_pl.trained.building import build_policy
from varshare_pl.trained.export import export_actor
from varshare_pl.trained.policy_folder import download, is_policy_folder, read_policy_folder
from varshare_pl.yaml_files import parse_yaml

Observation = TypeVar("Observation", Tensor, NDArray[Any])
Task = int | str | Sequence[int] | Sequence[str] | Tensor | NDArray[np.integer[Any]]
KEPT_TASKS = 64  # sets of tasks whose prepared weights are kept


class TrainedPolicy:
    """The actor of a run at the posterior mean, W_m = θ + μ_m for VarShare; it does not learn.

    Args:
        policy: Actor and critic.
        suite: What they were trained on.
        method: Name of the sharing method.
        env_steps: Env steps that they were trained for.
    """

    def __init__(self, policy: ActorCritic, suite: TaskSuite, method: str, env_steps: int) -> None:
        self.policy = policy.requires_grad_(False)
        self.suite = suite
        self.method = method
        self.env_steps = env_steps
        self.obs_shape: tuple[int, ...] = tuple(suite.observation_space.shape)
        self._prepared = lru_cache(KEPT_TASKS)(lambda tasks: policy.prepare_actor(torch.tensor(tasks)))

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks' names; a task's id is its place here."""
        return tuple(task.name for task in self.suite.tasks)

    def __call__(self, obs: Observation, task: Task, generator: torch.Generator | None = None) -> Observation:
        """Actions for observations.

        Args:
            obs: (*obs) or (rows, *obs), an array or a tensor.
            task: The task of all rows, as an id from 0 or a name, or one for each row.
            generator: Draws the actions; None: the most likely ones.

        Returns:
            (*action) or (rows, *action) actions as the env takes them, an array or a tensor as the observations are.

        Raises:
            ConfigError: for another shape of observations, or a task that does not exist.
            NonFiniteError: for an action that is not finite.
        """
        rows = torch.as_tensor(obs)
        single = tuple(rows.shape) == self.obs_shape
        if single:
            rows = rows.unsqueeze(0)
        if tuple(rows.shape[1:]) != self.obs_shape or not len(rows):
            wanted = f"{self.obs_shape} or (rows, {', '.join(map(str, self.obs_shape))})"
            raise ConfigError(f"obs: the shape {tuple(np.shape(obs))} is not allowed; {wanted} is")
        ids = self._task_ids(task, len(rows))
        params = self.action_params(rows, ids)
        distribution = self.policy.distribution
        if generator is None:
            actions = distribution.mode(params)
        else:
            actions = distribution.sample(params, distribution.draw_noise(1, len(rows), generator)[0].to(params))
        check_finite(actions, ids)
        actions = distribution.to_env(actions)
        actions = actions[0] if single else actions
        return actions if isinstance(obs, Tensor) else actions.numpy()[()]

    @torch.no_grad()
    def action_params(self, obs: Tensor, task: Tensor) -> Tensor:
        """(rows, P) parameters of the action distributions for obs (rows, *obs) and task ids (rows,)."""
        groups = TaskGroups.from_rows(task, self.suite.num_tasks)
        prepared = self._prepared(tuple(groups.group_task.tolist()))
        return self.policy.action_params(prepared, obs, groups)

    def task_id(self, task: int | str) -> int:
        """The id of one task, given as its name or its id.

        Raises:
            ConfigError: if it does not exist.
        """
        if isinstance(task, str):
            if task in self.tasks:
                return self.tasks.index(task)
        elif isinstance(task, int | np.integer) and not isinstance(task, bool) and 0 <= task < len(self.tasks):
            return int(task)
        raise ConfigError(f"task: {task!r} is not allowed; 0 to {len(self.tasks) - 1} or {', '.join(self.tasks)} is")

    def export(self, path: Path | str, task: int | str, overwrite: bool = False) -> Path:
        """Write one task's policy as a program that needs only torch: ``torch.export.load(path).module()``.

        The module maps observations (rows, *obs), of the type that the policy reads, to the most likely actions
        (rows, *action), as the env takes them, and the parameters of their distributions (rows, P), for any number of
        rows. It holds the task's weights alone.

        Args:
            path: A file that ends in .pt2.
            task: Id or name.
            overwrite: Replace a file that is there.

        Returns:
            The path.

        Raises:
            ConfigError: for a task that does not exist, another ending, or a file that is there already.
        """
        path, index = user_path(path), self.task_id(task)
        if path.suffix != ".pt2":
            raise ConfigError(f"path: {path} is not allowed; a file that ends in .pt2 is")
        if path.exists() and not overwrite:
            raise ConfigError(f"path: {path} exists; give another one, or overwrite=True to replace it")
        export_actor(self.policy, index, self.obs_shape, path)
        return path

    def _task_ids(self, task: Task, rows: int) -> Tensor:
        """(rows,) int64 ids."""
        if isinstance(task, int | str):
            return torch.full((rows,), self.task_id(task))
        given: ArrayLike = task.cpu().numpy() if isinstance(task, Tensor) else task
        ids = np.array([self.task_id(one) for one in np.atleast_1d(given).ravel().tolist()], np.int64)
        if np.shape(given) not in ((), (rows,)):
            raise ConfigError(f"task: the shape {np.shape(given)} is not allowed; one task, or ({rows},) is")
        return torch.from_numpy(np.broadcast_to(ids, (rows,)).copy())

    def __repr__(self) -> str:
        return f"TrainedPolicy({self.method} on {self.suite.name} after {self.env_steps} env steps)"


def load_policy(path: Path | str, checkpoint: Literal["last", "best"] = "last") -> TrainedPolicy:
    """The policy that a run has trained.

    Args:
        path: Folder of the run, a checkpoint file, a folder that ``varshare export-hub`` wrote, or such a folder at
            Hugging Face, as ``hf://owner/name`` or ``hf://owner/name@revision``.
        checkpoint: Which one of a run's folder: the newest, or that of the best evaluation.

    Raises:
        ConfigError: if there is no checkpoint, it is damaged, or the run's suite or method is not there.
    """
    path = download(path) if isinstance(path, str) and path.startswith(HUB) else user_path(path)
    if checkpoint not in ("last", "best"):
        raise ConfigError(f"checkpoint: {checkpoint!r} is not allowed; 'last' or 'best' is")
    if is_policy_folder(path):
        return TrainedPolicy(*read_policy_folder(path))
    if path.is_dir():
        folder, path = path, path / CHECKPOINTS / f"{checkpoint}.ckpt"
        if not path.is_file():
            what = "no such checkpoint yet" if (folder / CONFIG_FILE).is_file() else "it is not the folder of a run"
            raise ConfigError(f"load_policy: {path} is missing; {what}")
    content = read_checkpoint(path, "load_policy")
    policy, suite = build_policy(_config(path, content), str(path))
    saved, prefix = content[CHECKPOINT_KEY], "policy."
    weights = {k.removeprefix(prefix): v for k, v in content["state_dict"].items() if k.startswith(prefix)}
    identity = {"suite": suite.name, "num_tasks": suite.num_tasks, "tasks": list(suite.identities())}
    check_checkpoint({**content, "state_dict": weights}, identity, policy.state_dict(), "load_policy")
    policy.load_state_dict(weights, assign=True)  # each tensor in its own precision
    return TrainedPolicy(policy, suite, saved["sharing"], saved["env_steps"])


def _config(path: Path, checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The config of the run that wrote a checkpoint: in the checkpoint, or for older ones in the run's folder."""
    text = checkpoint.get(CONFIG_KEY)
    if text is None:
        beside = path.resolve().parent.parent / CONFIG_FILE
        if not beside.is_file():
            raise ConfigError(f"load_policy: {path} was written without its config; it must be in its run's folder")
        text = beside.read_text(encoding="utf-8")
    config = parse_yaml(text, f"the config of {path}", "load_policy")
    if not isinstance(config, dict):
        raise ConfigError(f"load_policy: the config of {path} is incomplete or damaged")
    return config
