"""The policy that acts while a rollout is collected: weights that stand still, built once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from varshare_pl.learning.weight_noise import ActorNoise, StoredNoise
from varshare_pl.networks.actor_critic import ActorCritic, PreparedActor
from varshare_pl.networks.groups import TaskGroups
from varshare_pl.networks.network import tensors_of, with_tensors
from varshare_pl.random import stream


class ActingPolicy:
    """Draws actions with the weights of the moment; no gradient, no module overhead.

    Args:
        policy: The actor-critic; its weights must not change while this object acts.
        noise: Weight noise of the actor; None: the posterior mean.
        seed: The run's.
        rollout: Index of the rollout to collect.
        context: Entered for every forward; sets the precision.
    """

    def __init__(
        self,
        policy: ActorCritic,
        noise: ActorNoise | None,
        seed: int,
        rollout: int,
        context: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._policy = policy
        self._device = policy.device
        self._context = context
        self._noise = noise
        self._stored = noise if isinstance(noise, StoredNoise) else None
        self._changes = noise is not None and noise.changes_every_step
        self._seed, self._rollout = seed, rollout
        self._step = 0
        self._last: tuple[TaskGroups, TaskGroups, PreparedActor] | None = None  # envs mostly keep their tasks
        self._prepared: dict[tuple[int, ...], PreparedActor] = {}  # by the groups' tasks

    def draw_noise(self, steps: int, envs: int) -> Tensor:
        """Noise for all actions of the rollout, (steps, envs, K) over the run's envs in global order.

        Behind what actions are drawn with stands what the actor's noise stores with each row.
        """
        generator = stream(self._seed, "action_noise", self._rollout)
        of_actions = self._policy.distribution.draw_noise(steps, envs, generator)
        if self._stored is None:
            return of_actions
        return torch.cat([of_actions, self._stored.draw_rows(steps, envs, self._rollout)], -1)

    @torch.inference_mode()
    def act(self, obs: Tensor, groups: TaskGroups, noise: Tensor) -> tuple[Tensor, Tensor]:
        """One step of all envs.

        Args:
            obs: (N, *obs).
            groups: The envs grouped by the task of their observation.
            noise: (N, K) from ``draw_noise``.

        Returns:
            Actions (N, *action) and the distributions' parameters (N, P), on the CPU.
        """
        prepared, groups = self._weights(groups)
        self._step += 1
        actions, params = self._act(prepared, obs.to(self._device), groups, noise.to(self._device))
        return actions.cpu(), params.cpu()

    def to_env(self, actions: Tensor) -> Tensor:
        """What the envs get for actions (N, *action), on the CPU."""
        return self._policy.distribution.to_env(actions)

    @property
    def compilable(self) -> bool:
        """Whether ``act_with`` does the same: on the CPU, where envs are, with the same weights at every step."""
        return not self._changes and self._device.type == "cpu"

    def tensors(self, groups: TaskGroups) -> list[Tensor]:
        """The weights that act for the envs of these groups."""
        with torch.no_grad():
            return tensors_of(self._weights(groups)[0])

    def act_with(
        self, tensors: Sequence[Tensor], obs: Tensor, groups: TaskGroups, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The same as ``act``, as a pure function of the weights, for a compiler."""
        prepared = with_tensors(self._weights(groups)[0], iter(tensors))
        with torch.no_grad():
            return self._act(prepared, obs, groups, noise)

    def _act(self, prepared: PreparedActor, obs: Tensor, groups: TaskGroups, noise: Tensor) -> tuple[Tensor, Tensor]:
        with self._context():
            if self._stored is not None:
                noise, own = torch.tensor_split(noise, [-self._stored.row_size], -1)
                of_layers = self._stored.of_layers(groups.group(own).to(self._policy.dtype))
                weights = self._policy.actor.with_local_noise(prepared.weights, of_layers)
                prepared = prepared._replace(weights=weights)
            params = self._policy.action_params(prepared, obs, groups)
        return self._policy.distribution.sample(params, noise), params

    def _weights(self, groups: TaskGroups) -> tuple[PreparedActor, TaskGroups]:
        """Prepared for these groups, and the groups where the policy is."""
        if self._changes or self._last is None or self._last[0] is not groups:
            here = groups if self._device.type == "cpu" else groups.to(self._device)
            tasks = tuple(groups.group_task.tolist())
            if self._changes or tasks not in self._prepared:
                noise = None if self._noise is None else self._noise.acting(self._rollout, self._step, len(tasks))
                self._prepared[tasks] = self._policy.prepare_actor(here.group_task, noise)
            self._last = groups, here, self._prepared[tasks]
        return self._last[2], self._last[1]
