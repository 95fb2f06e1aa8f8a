"""How much the tasks' gradients agree: the cosine between those of every two tasks, for actor and critic.

Of the loss without the KL, by the shared parameters, over all rows of a rollout, before its update: at the noise that
acted for the actor, at the posterior mean for the critic.
"""

from __future__ import annotations

import torch
from torch import Tensor

from varshare_pl.errors import ConfigError
from varshare_pl.learning.weight_noise import ActorNoise
from varshare_pl.networks.actor_critic import ActorCritic
from varshare_pl.networks.groups import TaskGroups
from varshare_pl.networks.sharing_metrics import cosines, pair_details
from varshare_pl.networks.size import shared_parameters
from varshare_pl.parallel import average_
from varshare_pl.ppo.combined import one_group
from varshare_pl.ppo.losses import StepInput, compute_losses, total_loss
from varshare_pl.ppo.options import PPOOptions
from varshare_pl.random import stream
from varshare_pl.rollout.minibatches import Rows, minibatches
from varshare_pl.types import Detail

METRIC = "gradients/cosine"


class CosineMatrix:
    """Measures; changes nothing.

    Args:
        policy: Whose gradients are measured.

    Raises:
        ConfigError: if tasks share nothing, or there is one task only.
    """

    def __init__(self, policy: ActorCritic) -> None:
        shared = {name: shared_parameters(policy, name) for name, _ in policy.networks()}
        self._shared = {network: parameters for network, parameters in shared.items() if parameters}
        if policy.num_tasks == 1 or not self._shared:
            raise ConfigError(
                "model.cosine_every: a number is not allowed where no parameter is shared between tasks; null is"
            )
        self._policy = policy

    def measure(
        self,
        rows: Rows,
        groups: TaskGroups,
        row_weight: Tensor,
        rollout: int,
        options: PPOOptions,
        actor_noise: ActorNoise | None,
        seed: int,
    ) -> dict[str, Tensor]:
        """By network (M, M); NaN where a task has no rows or no gradient.

        Args:
            rows: From ``build_rows``.
            groups: From ``build_rows``.
            row_weight: (M,) from ``task_weights``.
            rollout: Its index.
            options: Have the coefficients of the loss.
            actor_noise: What acted; None: the posterior mean.
            seed: The run's.
        """
        policy = self._policy
        (batch,) = minibatches(rows, groups, 1, row_weight, stream(seed, "cosine", rollout))
        noise = None if actor_noise is None else actor_noise.learning(rollout, 0, batch.noise)
        step = StepInput(batch, noise, None)
        parameters = [p for shared in self._shared.values() for p in shared]
        sizes = [sum(p.numel() for p in shared) for shared in self._shared.values()]
        matrix = parameters[0].new_zeros(policy.num_tasks, sum(sizes))
        for group, task in enumerate(batch.group_task.tolist()):
            loss = total_loss(compute_losses(policy, one_group(step, group), options), None, 0.0, options)
            gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
            matrix[task] = torch.cat([gradient.reshape(-1) for gradient in gradients])
        average_(matrix)
        return {
            network: cosines(part)
            for network, part in zip(self._shared, torch.split(matrix, sizes, dim=1), strict=True)
        }


def cosine_record(matrices: dict[str, Tensor]) -> tuple[dict[str, float], list[Detail]]:
    """The mean over pairs of tasks and networks, and every pair."""
    pairs = [detail for network, matrix in matrices.items() for detail in pair_details(METRIC, matrix, network)]
    return {METRIC: float(torch.tensor([detail.value for detail in pairs]).nanmean())}, pairs
