"""Actor and critic: two separate networks, an action distribution, and what stands before and behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from varshare_pl.errors import ConfigError, NonFiniteError
from varshare_pl.networks.actions import make_distribution
from varshare_pl.networks.encoder import image_spec
from varshare_pl.networks.groups import TaskGroups
from varshare_pl.networks.layer import Noise, TaskLinear, of_tasks
from varshare_pl.networks.method import SharingMethod
from varshare_pl.networks.moments import TaskMoments
from varshare_pl.networks.network import NetworkSpec, TaskNetwork
from varshare_pl.networks.options import ActionOptions, NetworkOptions, NormalisationOptions, Scope
from varshare_pl.networks.popart import PopArt
from varshare_pl.networks.wrapped import EncodedNetwork, MaskedNetwork
from varshare_pl.random import stream
from varshare_pl.types import EnvSpec

LARGEST_OBSERVATION = 10.0  # standard deviations beyond which a normalised observation is cut off


class PreparedActor(NamedTuple):
    """All that acting needs for some groups, for as long as the weights stand still."""

    weights: Any  # what ``TaskNetwork.prepare`` gave
    beside: Tensor | None  # what ``ActionDistribution.prepare`` gave
    mean: Tensor | None  # (G, 1, obs_size) of raw observations, where they are normalised
    std: Tensor | None  # the same


class ActorCritic(nn.Module):
    """Separate actor and critic networks that a sharing method makes.

    The networks read encoded observations: flat, normalised where that is asked for, else integers from 0 to 1, and of
    their type. What they do with images is their own.

    Args:
        spec: Of the task suite.
        sharing: The sharing method.
        network: Sizes and initial scales.
        normalisation: What is normalised.
        actions: Of continuous actions.
        seed: The run's; initial weights are drawn from streams of it.

    Attributes:
        observation_moments: Of raw observations, (obs_size,) a row; None where they are not normalised.
        return_moments: Of value targets, the same.
        reward_moments: Of discounted returns, the same; see ``learning.normalisation.RewardScaling``.
        popart: What keeps the critic's values in raw units, or None.
    """

    def __init__(
        self,
        spec: EnvSpec,
        sharing: SharingMethod,
        network: NetworkOptions | None = None,
        normalisation: NormalisationOptions | None = None,
        actions: ActionOptions | None = None,
        seed: int = 1,
    ) -> None:
        super().__init__()
        network, normalisation = network or NetworkOptions(), normalisation or NormalisationOptions()
        widths = tuple(network.hidden_sizes)
        if not widths or min(widths) < 1:
            raise ConfigError(f"model.hidden_sizes: {list(widths)} is not allowed; a list of positive integers is")
        self.hidden_sizes = widths
        self.num_tasks = tasks = spec.num_tasks
        self.obs_size = spec.obs_size

        images = image_spec(spec, network.encoder, network.hidden_gain)
        features = spec.obs_size if images is None else images.num_features

        def make(name: str, outputs: int, head_gain: float) -> TaskNetwork:
            sizes = NetworkSpec(
                name, features, widths, outputs, tasks, network.activation, network.hidden_gain, head_gain
            )
            made = sharing.make_network(sizes, stream(seed, f"init/{name}"))
            if images is None:
                return made
            return EncodedNetwork(sharing.make_encoder(images, stream(seed, f"init/{name}/encoder")), made)

        def moments(scope: Scope, shape: tuple[int, ...] = (), dtype: torch.dtype | None = None) -> TaskMoments | None:
            return None if scope == "none" else TaskMoments(tasks, shape, dtype, shared=scope == "shared")

        wide = torch.float64 if spec.obs_dtype == "float64" else None
        self._bytes = spec.obs_dtype == "uint8"
        scope = normalisation.observation_scope(encodes_bytes=self._bytes and images is not None)
        self.observation_moments = moments(scope, (spec.obs_size,), wide)
        self._scale = spec.obs_scale if self.observation_moments is None else 1.0
        self.return_moments = moments(normalisation.normalize_returns)
        self.reward_moments = moments(normalisation.normalize_rewards)
        self.distribution = make_distribution(spec.action_space, spec.num_tasks, actions or ActionOptions())
        self.actor = make("actor", self.distribution.num_outputs, network.actor_head_gain)
        if spec.action_counts:
            self.actor = MaskedNetwork(self.actor, spec.action_counts)
        self.critic = make("critic", 1, network.critic_head_gain)
        self.popart = PopArt(tasks) if normalisation.popart else None
        self.num_variational = self.actor.num_variational + self.critic.num_variational  # P, of one task

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.actor.parameters()).dtype

    @property
    def obs_dtype(self) -> torch.dtype:
        """Of raw observations: float64 where they are normalised in it, uint8 if they are, else that of the weights."""
        if self._bytes:
            return torch.uint8
        moments = self.observation_moments
        return self.dtype if moments is None or moments.mean.dtype != torch.float64 else torch.float64

    @property
    def device(self) -> torch.device:
        """Of the weights."""
        return next(self.actor.parameters()).device

    def networks(self) -> Iterator[tuple[str, TaskNetwork]]:
        """Actor and critic by name."""
        yield from (("actor", self.actor), ("critic", self.critic))

    def parameters_of(self, network: str) -> list[nn.Parameter]:
        """The parameters that are trained with a network: its own, and those of what stands behind it."""
        return [*self.get_submodule(network).parameters(), *self.parameters_behind(network)]

    def parameters_behind(self, network: str) -> list[nn.Parameter]:
        """Those of what stands behind a network. If the first axis has the size M, its entries are each one task's."""
        behind = self.distribution if network == "actor" else self.popart
        return [] if behind is None else list(behind.parameters())

    def layers(self) -> Iterator[tuple[str, str, TaskLinear]]:
        """All task-aware layers as (network, layer, module)."""
        for name, network in self.networks():
            for layer, module in network.layers():
                yield name, layer, module

    def encode(self, obs: Tensor, task: Tensor) -> Tensor:
        """Observations (rows, *obs) of tasks (rows,) as the networks read them, (rows, obs_size)."""
        rows, moments = obs.flatten(1), self.observation_moments
        if moments is not None:
            mean, std = moments.by_task()
            rows = _normalised(rows, mean[task], std[task])
        return self._scaled(rows)

    def _scaled(self, rows: Tensor) -> Tensor:
        return rows.to(self.dtype) if self._scale == 1.0 else rows.to(self.dtype) * self._scale

    def prepare_actor(
        self, group_task: Tensor, noise: Sequence[Noise] | None = None, shared_only: bool = False
    ) -> PreparedActor:
        """What acting needs for groups of the tasks group_task (G,).

        Args:
            group_task: Ascending, each task once at most.
            noise: The actor's weight noise; None for the posterior mean.
            shared_only: Set every task's deviation from the shared weights to 0.
        """
        actor, moments = self.actor, self.observation_moments
        weights = actor.prepare_shared(group_task) if shared_only else actor.prepare(group_task, noise)
        beside = self.distribution.prepare(group_task)
        if moments is None:
            return PreparedActor(weights, beside, None, None)
        mean, std = (of_tasks(each, group_task).unsqueeze(1) for each in moments.by_task())
        return PreparedActor(weights, beside, mean, std)

    def action_params(self, prepared: PreparedActor, obs: Tensor, groups: TaskGroups) -> Tensor:
        """The action distributions' parameters (rows, P) for raw observations (rows, *obs), grouped by task."""
        return groups.ungroup(self.group_params(prepared, groups.group(obs.flatten(1))))

    def group_params(self, prepared: PreparedActor, obs: Tensor) -> Tensor:
        """The same (G, R, P) for flat raw observations (G, R, obs_size)."""
        if prepared.mean is not None and prepared.std is not None:
            obs = _normalised(obs, prepared.mean, prepared.std)
        return self.distribution.params(self.actor.compute(prepared.weights, self._scaled(obs)), prepared.beside)

    def actor_params(self, group_task: Tensor, noise: Sequence[Noise] | None, x: Tensor) -> Tensor:
        """The same for encoded observations x (G, R, obs_size) of the tasks group_task (G,), to differentiate."""
        outputs = self.actor.compute(self.actor.prepare(group_task, noise), x)
        return self.distribution.params(outputs, self.distribution.prepare(group_task))

    def critic_outputs(self, group_task: Tensor, noise: Sequence[Noise] | None, x: Tensor) -> Tensor:
        """The critic's outputs (G, R) for encoded observations x (G, R, obs_size) of the tasks group_task (G,)."""
        outputs = self.critic.compute(self.critic.prepare(group_task, noise), x).squeeze(-1)
        return outputs if self.popart is None else self.popart(outputs, group_task)

    def values(self, outputs: Tensor, task: Tensor) -> Tensor:
        """Values in units of rewards from the critic's outputs, and the tasks of their rows; all of one shape."""
        return outputs if self.return_moments is None else self.return_moments.denormalise(outputs, task)

    def kl(self) -> Tensor:
        """(M,) KL to the prior of all weights of each task, actor and critic, in nats."""
        return self.actor.kl() + self.critic.kl()

    def deterministic(self, shared_only: bool = False) -> Callable[[Tensor, Tensor], Tensor]:
        """The policy that is evaluated: posterior mean, most likely action, with the weights of this moment.

        Args:
            shared_only: Set every task's deviation from the shared weights to 0: what sharing alone achieves.

        Returns:
            A function from observations (rows, *obs) and tasks (rows,) to the env's actions (rows, *action).
        """
        device = self.device
        with torch.no_grad():
            prepared = self.prepare_actor(torch.arange(self.num_tasks, device=device), shared_only=shared_only)
        last: tuple[Tensor, TaskGroups] | None = None  # envs mostly keep their tasks

        @torch.inference_mode()
        def act(obs: Tensor, task: Tensor) -> Tensor:
            nonlocal last
            if last is None or not torch.equal(last[0], task):
                last = task.clone(), TaskGroups.from_rows(task, self.num_tasks, keep_empty=True).to(device)
            actions = self.distribution.mode(self.action_params(prepared, obs.to(device), last[1])).cpu()
            check_finite(actions, task)
            return self.distribution.to_env(actions)

        return act


def _normalised(rows: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return ((rows - mean) / std).clamp(-LARGEST_OBSERVATION, LARGEST_OBSERVATION)


def check_finite(actions: Tensor, task: Tensor) -> None:
    """See that actions (rows, *action) for the tasks (rows,) are numbers that an env can take.

    Raises:
        NonFiniteError: if one is not.
    """
    if not actions.is_floating_point() or bool((finite := actions.isfinite()).all()):
        return
    bad = int(task[~finite.reshape(len(task), -1).all(1)][0])
    raise NonFiniteError(f"an action of task {bad} is not finite; its actor's weights are too large, or no numbers")
