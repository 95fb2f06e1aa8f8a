"""Actor and critic: two separate torsos and an action head."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from varshare_pl.errors import ConfigError
from varshare_pl.groups import TaskGroups
from varshare_pl.policy.heads import CategoricalHead
from varshare_pl.policy.moments import TaskMoments
from varshare_pl.policy.wrappers import NormalisedInput, RescaledOutput
from varshare_pl.random import stream
from varshare_pl.sharing.activations import ActivationName
from varshare_pl.sharing.base import KLPullback, TaskLinear
from varshare_pl.sharing.method import SharingMethod
from varshare_pl.sharing.torso import Torso, TorsoSpec
from varshare_pl.types import EnvSpec

ReturnNorm = Literal["none", "running", "popart"]


class ActorCritic(nn.Module):
    """Separate actor and critic trunks whose layers a sharing method makes.

    Args:
        spec: Sizes of the task suite.
        sharing: The sharing method.
        hidden_sizes: Widths of the hidden layers, of actor and critic each.
        activation: After every hidden layer.
        hidden_gain: Scale of the hidden layers' orthogonal initial weights.
        actor_head_gain: The same for the actor's head; small, so that the first policy is close to uniform.
        critic_head_gain: The same for the critic's head.
        seed: Hangs the initial weights on the run's seed.
        normalize_observations: Actor and critic read observations normalised by running moments of each task.
        normalize_returns: The critic's outputs are values normalised by running moments of each task's value targets;
            under "popart" with ``RescaledOutput`` behind it.
        normalize_rewards: Its values are those of scaled rewards.

    Attributes:
        observation_moments: Of raw observations, (obs_size,) a row; None where they are not normalised.
        return_moments: Of value targets, the same.
        reward_moments: Of discounted returns, the same; see ``varshare_pl.ppo.normalisation.RewardScaling``.
    """

    def __init__(
        self,
        spec: EnvSpec,
        sharing: SharingMethod,
        hidden_sizes: Sequence[int] = (64, 64),
        activation: ActivationName = "tanh",
        hidden_gain: float = 2**0.5,
        actor_head_gain: float = 0.01,
        critic_head_gain: float = 1.0,
        seed: int = 1,
        normalize_observations: bool = False,
        normalize_returns: ReturnNorm = "none",
        normalize_rewards: bool = False,
    ) -> None:
        super().__init__()
        if not hidden_sizes or min(hidden_sizes) < 1:
            raise ConfigError(
                f"model.hidden_sizes: {list(hidden_sizes)} is not allowed; a list of positive integers is"
            )
        self.hidden_sizes = tuple(hidden_sizes)
        self.num_tasks = spec.num_tasks
        self.head = CategoricalHead(spec.num_actions)

        def torso(network: str, outputs: int, head_gain: float) -> Torso:
            generator = stream(seed, f"init/{network}")
            sizes = (spec.obs_size, self.hidden_sizes, outputs, spec.num_tasks)
            return sharing.make_torso(TorsoSpec(network, *sizes, activation, hidden_gain, head_gain), generator)

        tasks = spec.num_tasks
        wide = torch.float64 if spec.obs_dtype == "float64" else None
        self.observation_moments = TaskMoments(tasks, (spec.obs_size,), wide) if normalize_observations else None
        self.return_moments = None if normalize_returns == "none" else TaskMoments(tasks)
        self.reward_moments = TaskMoments(tasks) if normalize_rewards else None
        self.actor = torso("actor", self.head.num_outputs, actor_head_gain)
        self.critic = torso("critic", 1, critic_head_gain)
        if self.observation_moments is not None:
            self.actor = NormalisedInput(self.actor, self.observation_moments)
            self.critic = NormalisedInput(self.critic, self.observation_moments)
        if normalize_returns == "popart":
            self.critic = RescaledOutput(self.critic)

    @property
    def obs_dtype(self) -> torch.dtype:
        """In which observations are read: float64 where they are normalised in it, else as the networks compute."""
        moments, network = self.observation_moments, next(self.parameters()).dtype
        return network if moments is None or moments.mean.dtype != torch.float64 else torch.float64

    def networks(self) -> Iterator[tuple[str, Torso]]:
        """The torsos by name."""
        yield "actor", self.actor
        yield "critic", self.critic

    def layers(self) -> Iterator[tuple[str, str, TaskLinear]]:
        """All task-aware layers as (network, layer, module)."""
        for network, torso in self.networks():
            for name, layer in torso.layers():
                yield network, name, layer

    def values(self, outputs: Tensor, task: Tensor) -> Tensor:
        """Values in units of rewards from the critic's outputs, and the tasks of their rows; all of one shape."""
        return outputs if self.return_moments is None else self.return_moments.denormalise(outputs, task)

    def kl(self) -> Tensor:
        """(M,) KL to the prior of all weights of each task, actor and critic, in nats."""
        return self.actor.kl() + self.critic.kl()

    def kl_with_pullback(self, rank: int = 0, processes: int = 1) -> tuple[Tensor, KLPullback]:
        """The same without autograd's graph, and its pullback to the parameters; see ``Torso.kl_with_pullback``."""
        if not self.num_variational:
            return self.actor.kl(), lambda _: []
        (actor, of_actor), (critic, of_critic) = (
            torso.kl_with_pullback(rank, processes) for _, torso in self.networks()
        )
        return actor + critic, lambda scale: of_actor(scale) + of_critic(scale)

    @property
    def num_variational(self) -> int:
        """P: the number of variational weights of one task, actor and critic."""
        return self.actor.num_variational + self.critic.num_variational

    def deterministic(self, shared_only: bool = False) -> Callable[[Tensor, Tensor], Tensor]:
        """The policy that is evaluated: posterior mean, most likely action, with the weights of this moment.

        Args:
            shared_only: Set every task's deviation from the shared weights to 0: what sharing alone achieves.

        Returns:
            A function from observations (rows, *obs) and tasks (rows,) to actions (rows,), on any device.
        """
        device, dtype = next(self.parameters()).device, self.obs_dtype
        tasks = torch.arange(self.num_tasks, device=device)
        with torch.no_grad():
            prepared = self.actor.prepare_shared(tasks) if shared_only else self.actor.prepare(tasks)

        last: tuple[Tensor, TaskGroups] | None = None  # envs mostly keep their tasks

        @torch.inference_mode()
        def act(obs: Tensor, task: Tensor) -> Tensor:
            nonlocal last
            if last is None or not torch.equal(last[0], task):
                last = task.clone(), TaskGroups.from_rows(task, self.num_tasks, keep_empty=True).to(device)
            groups = last[1]
            stacked = groups.group(obs.to(device, dtype).flatten(1))
            return self.head.mode(groups.ungroup(self.actor.compute(prepared, stacked))).cpu()

        return act
