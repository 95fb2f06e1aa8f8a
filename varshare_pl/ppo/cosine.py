"""How much the tasks' gradients agree: the cosine between those of every two tasks, for actor and critic.

Of the loss without the KL, by the shared parameters, over all rows of a rollout, before its update: at the noise that
acted for the actor, at the posterior mean for the critic.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from varshare_pl.errors import ConfigError
from varshare_pl.groups import TaskGroups
from varshare_pl.parallel import average_
from varshare_pl.policy.actor_critic import ActorCritic
from varshare_pl.policy.size import shared_parameters
from varshare_pl.ppo import stored_noise
from varshare_pl.ppo.behaviour import rollout_noise
from varshare_pl.ppo.combined import one_group
from varshare_pl.ppo.objective import Objective, Seeds
from varshare_pl.ppo.step import Work
from varshare_pl.ppo.update import UpdateOptions
from varshare_pl.random import stream
from varshare_pl.rollout.minibatches import Minibatches, Rows, task_weights
from varshare_pl.sharing.base import Noise
from varshare_pl.types import Detail


class CosineMatrix:
    """Measures; changes nothing.

    Args:
        policy: Whose gradients are measured.
        obs_size: Of an observation row.

    Raises:
        ConfigError: if tasks share nothing, or there is one task only.
    """

    def __init__(self, policy: ActorCritic, obs_size: int) -> None:
        shared = {network: shared_parameters(torso, obs_size) for network, torso in policy.networks()}
        self._shared = {network: parameters for network, parameters in shared.items() if parameters}
        if policy.num_tasks == 1 or not self._shared:
            raise ConfigError(
                "model.cosine_every: a number is not allowed where no parameter is shared between tasks; null is"
            )
        self._policy = policy

    def __call__(
        self, rows: Rows, groups: TaskGroups, rollout: int, objective: Objective, options: UpdateOptions
    ) -> dict[str, Tensor]:
        """By network (M, M); NaN where a task has no rows or no gradient.

        Args:
            rows: From ``build_rows``.
            groups: From ``build_rows``.
            rollout: Its index.
            objective: Gives the losses.
            options: Say which noise acted.
        """
        policy = self._policy
        weights = task_weights(rows["task"], policy.num_tasks)
        (batch,) = Minibatches(rows, groups, 1, weights).epoch(stream(options.seed, "cosine", rollout))
        noise: Sequence[Noise] | None = rollout_noise(policy, options.actor_noise, options.seed, rollout)
        work = Work(batch, noise if batch.noise is None else stored_noise.split(policy.actor, batch.noise), None)
        parameters = [p for shared in self._shared.values() for p in shared]
        sizes = [sum(p.numel() for p in shared) for shared in self._shared.values()]
        matrix = parameters[0].new_zeros(policy.num_tasks, sum(sizes))
        seed = Seeds(objective)
        for group, task in enumerate(batch.group_task.tolist()):
            sums, _ = objective.data_terms(policy, *one_group(work, group))
            gradients = torch.autograd.grad(sums, parameters, seed(sums), materialize_grads=True)
            matrix[task] = torch.cat([gradient.reshape(-1) for gradient in gradients])
        average_(matrix)
        return {
            network: cosines(part)
            for network, part in zip(self._shared, torch.split(matrix, sizes, dim=1), strict=True)
        }


def cosines(gradients: Tensor) -> Tensor:
    """(M, M) from rows (M, P); NaN for a row of zeros."""
    directions: Tensor = gradients / torch.linalg.vector_norm(gradients, dim=1, keepdim=True)
    return directions @ directions.mT


def cosine_record(matrices: dict[str, Tensor]) -> tuple[dict[str, float], list[Detail]]:
    """The mean over pairs of tasks and networks, and every pair."""
    details, values = [], []
    for network, matrix in matrices.items():
        first, second = torch.triu_indices(len(matrix), len(matrix), offset=1).tolist()
        pairs = matrix[first, second].tolist()
        values.append(matrix[first, second])
        details += [
            Detail(f"gradients/cosine_with_{k}", value, network, task=m)
            for m, k, value in zip(first, second, pairs, strict=True)
        ]
    return {"gradients/cosine": float(torch.cat(values).nanmean())}, details
