"""One task's policy as a program of torch alone."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from varshare_pl.networks.actor_critic import ActorCritic
from varshare_pl.networks.network import tensors_of, with_tensors


class TaskActor(nn.Module):
    """Observations (rows, *obs) to the env's most likely actions (rows, *action) and their distributions' parameters.

    Its buffers are the task's prepared weights and nothing else.

    Args:
        policy: Actor and critic.
        task: The task's id.
    """

    def __init__(self, policy: ActorCritic, task: int) -> None:
        super().__init__()
        self._policy = (policy,)  # in a tuple: the parameters of all tasks are not this module's
        with torch.no_grad():
            self._prepared = policy.prepare_actor(torch.tensor([task]))
        tensors = tensors_of(self._prepared)
        self._dtype = policy.obs_dtype
        self._names = [f"weight_{i}" for i in range(len(tensors))]
        for name, tensor in zip(self._names, tensors, strict=True):
            self.register_buffer(name, tensor.detach().clone())

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        (policy,) = self._policy
        prepared = with_tensors(self._prepared, iter([self.get_buffer(name) for name in self._names]))
        params = policy.group_params(prepared, obs.to(self._dtype).flatten(1).unsqueeze(0))[0]
        return policy.distribution.to_env(policy.distribution.mode(params)), params


def export_actor(policy: ActorCritic, task: int, obs_shape: tuple[int, ...], path: Path) -> None:
    """Write the actor of one task as an exported program, for any number of rows; whole or not at all."""
    example = torch.zeros(2, *obs_shape, dtype=policy.obs_dtype)
    rows = torch.export.Dim("rows", min=1)
    with torch.no_grad():
        program = torch.export.export(TaskActor(policy, task), (example,), dynamic_shapes=({0: rows},))
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        temporary = Path(folder) / path.name
        torch.export.save(program, temporary)
        temporary.replace(path)
