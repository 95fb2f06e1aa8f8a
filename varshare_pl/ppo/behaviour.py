"""The policy that acts while a rollout is collected: weights that stand still, built once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor

from varshare_pl.groups import TaskGroups
from varshare_pl.policy.actor_critic import ActorCritic
from varshare_pl.ppo import stored_noise
from varshare_pl.random import stream
from varshare_pl.sharing.base import Noise
from varshare_pl.sharing.torso import tensors_of, with_tensors

ActorNoise = Literal["rollout", "stored", "mean", "fresh"]


def rollout_noise(policy: ActorCritic, mode: ActorNoise, seed: int, rollout: int) -> list[Tensor | None] | None:
    """The actor's weight noise for one rollout, None where no weights are drawn.

    Under "rollout" acting and all epochs of the update use this one draw, so the PPO ratio starts at 1. Under "fresh"
    the caller draws anew at every forward.
    """
    if mode in ("mean", "stored"):
        return None
    return policy.actor.draw_weight_noise(stream(seed, "weight_noise", rollout))


class Behaviour:
    """Draws actions with the weights of the moment; no gradient, no module overhead.

    Args:
        policy: The actor-critic; its weights must not change while this object acts.
        mode: Weight noise of the actor.
        seed: The run's seed.
        rollout: Index of the rollout to collect.
        device: Where the policy lives.
        context: Entered for every forward; sets the precision.
    """

    def __init__(
        self,
        policy: ActorCritic,
        mode: ActorNoise,
        seed: int,
        rollout: int,
        device: torch.device,
        context: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._policy = policy
        self._device = device
        self._dtype = policy.obs_dtype
        self._context = context
        self._fresh = stream(seed, "fresh_noise/acting", rollout) if mode == "fresh" else None
        self._stored = mode == "stored"
        self._noise: Sequence[Noise] | None = rollout_noise(policy, mode, seed, rollout)
        self._prepared: dict[tuple[int, ...], Any] = {}
        self._seed, self._rollout = seed, rollout

    def draw_action_noise(self, steps: int, envs: int) -> Tensor:
        """Noise for all actions of the rollout, (steps, envs, …) over the run's envs in global order.

        Under "stored" the actor's noise stands behind that of the actions, see ``stored_noise``.
        """
        noise = self._policy.head.draw_noise(steps, envs, stream(self._seed, "action_noise", self._rollout))
        if not self._stored:
            return noise
        return torch.cat([noise, stored_noise.draw(self._policy.actor, steps, envs, self._seed, self._rollout)], -1)

    @torch.inference_mode()
    def __call__(self, obs: Tensor, groups: TaskGroups, noise: Tensor) -> tuple[Tensor, Tensor]:
        """One step of all envs.

        Args:
            obs: (N, *obs).
            groups: The envs grouped by the task of their observation.
            noise: (N, …) action noise.

        Returns:
            Actions (N, …) and the distributions' parameters (N, P).
        """
        # Grouped on the CPU, where envs and groups are: one copy there and one back.
        stacked = groups.group(obs.flatten(1)).to(self._device, self._dtype)
        with self._context():
            noise, weights = self._with_stored(self._weights(groups), groups, noise)
            output = self._policy.actor.compute(weights, stacked)
        params = groups.ungroup(output.cpu())
        return self._policy.head.sample(params, noise), params

    @property
    def compilable(self) -> bool:
        """Whether ``act`` does the same as a call: on the CPU, where envs are, with the same weights at every step."""
        return self._fresh is None and self._device.type == "cpu"

    def tensors(self, groups: TaskGroups) -> list[Tensor]:
        """The weights that act for the envs of these groups."""
        with torch.no_grad():
            return tensors_of(self._weights(groups))

    def act(self, tensors: Sequence[Tensor], obs: Tensor, groups: TaskGroups, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The same as a call, as a pure function of the weights, for a compiler."""
        weights = with_tensors(self._weights(groups), iter(tensors))
        with torch.no_grad(), self._context():
            noise, weights = self._with_stored(weights, groups, noise)
            output = self._policy.actor.compute(weights, groups.group(obs.flatten(1)).to(self._dtype))
        params = groups.ungroup(output)
        return self._policy.head.sample(params, noise), params

    def _with_stored(self, weights: Any, groups: TaskGroups, noise: Tensor) -> tuple[Tensor, Any]:
        """The action noise (N, …), and the weights with the actor's noise of this step."""
        if not self._stored:
            return noise, weights
        noise, own = stored_noise.take_off(self._policy.actor, noise)
        of_layers = stored_noise.split(self._policy.actor, groups.group(own).to(self._device))
        return noise, self._policy.actor.with_local_noise(weights, of_layers)

    def _weights(self, groups: TaskGroups) -> Any:
        torso = self._policy.actor
        if self._fresh is not None:
            return torso.prepare(groups.group_task, torso.draw_weight_noise(self._fresh))
        key = tuple(groups.group_task.tolist())
        if key not in self._prepared:
            noise = stored_noise.blank(torso, len(key)) if self._stored else self._noise
            self._prepared[key] = torso.prepare(groups.group_task, noise)
        return self._prepared[key]
