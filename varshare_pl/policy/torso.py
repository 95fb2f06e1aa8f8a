"""A trunk with its head: a multilayer perceptron of task-aware layers.

A whole-network method brings a torso of its own with the same calls: ``prepare``, ``compute``, ``forward``, the noise
draws and ``layers``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from varshare_pl.groups import TaskGroups
from varshare_pl.policy.activations import ACTIVATIONS, ActivationName
from varshare_pl.policy.fused import mlp
from varshare_pl.sharing.base import LayerSpec, Noise, Prepared, SharingMethod, TaskLinear
from varshare_pl.sharing.gaussian import LocalNoise


class Torso(nn.Module):
    """Hidden layers and a head, all made by a sharing method.

    Args:
        method: Makes the layers.
        in_features: Size of an observation row.
        hidden_sizes: Widths of the hidden layers.
        out_features: Size of the head's output.
        num_tasks: Number of tasks M.
        activation: After every hidden layer.
        hidden_gain: Scale of the hidden layers' orthogonal initial weights.
        head_gain: The same for the head.
        generator: Draws the initial weights.
    """

    _no_kl: Tensor

    def __init__(
        self,
        method: SharingMethod,
        in_features: int,
        hidden_sizes: Sequence[int],
        out_features: int,
        num_tasks: int,
        activation: ActivationName,
        hidden_gain: float,
        head_gain: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.num_tasks = num_tasks
        sizes = [in_features, *hidden_sizes, out_features]
        names = [f"layer_{i}" for i in range(1, len(hidden_sizes) + 1)] + ["head"]
        self.stack = nn.ModuleDict()
        for index, (name, fan_in, fan_out) in enumerate(zip(names, sizes[:-1], sizes[1:], strict=True)):
            layer = method.make_layer(LayerSpec(name, index, fan_in, fan_out, num_tasks))
            layer.reset_parameters(head_gain if name == "head" else hidden_gain, generator)
            self.stack[name] = layer
        self.register_buffer("_no_kl", torch.zeros(num_tasks), persistent=False)
        self._layers = cast("list[TaskLinear]", list(self.stack.values()))
        self.num_variational = sum(layer.num_variational for layer in self._layers)  # P, weights of one task
        self._fusable = all(type(layer).compute is TaskLinear.compute for layer in self._layers)

    def layers(self) -> Iterator[tuple[str, TaskLinear]]:
        """The task-aware layers by name, input first: layer_1, layer_2, …, head."""
        return zip(self.stack.keys(), self._layers, strict=True)

    def prepare(self, group_task: Tensor, noise: Sequence[Noise] | None = None) -> list[Prepared]:
        """Weights of every layer for the groups whose tasks are group_task (G,); noise has one entry a layer."""
        noise = noise or [None] * len(self._layers)
        return [layer.prepare(group_task, eps) for layer, eps in zip(self._layers, noise, strict=True)]

    def prepare_shared(self, group_task: Tensor) -> list[Prepared]:
        """Weights with every task's deviation from the shared part set to 0."""
        return [layer.prepare_shared(group_task) for layer in self._layers]

    def compute(self, prepared: Sequence[Prepared], x: Tensor) -> Tensor:
        """Rows x (G, R, in) to outputs (G, R, out), of the weights' type in mixed precision too."""
        if self._fusable and not torch.is_autocast_enabled(x.device.type):
            return mlp(x, prepared, self.activation)
        return self.compute_by_layers(prepared, x)

    def compute_by_layers(self, prepared: Sequence[Prepared], x: Tensor) -> Tensor:
        """The same by autograd's rules alone."""
        *hidden, head = zip(self._layers, prepared, strict=True)
        for layer, weights in hidden:
            x = self.activation.function(layer.compute(weights, x))
        return head[0].compute(head[1], x).to(head[1].weight.dtype)

    def forward(self, x: Tensor, task: Tensor, noise: Sequence[Noise] | None = None) -> Tensor:
        """Rows (rows, in) of any mix of tasks (rows,) to (rows, out); noise as in ``prepare``, weight noise only."""
        groups = TaskGroups.from_rows(task, self.num_tasks)
        return groups.ungroup(self.compute(self.prepare(groups.group_task, noise), groups.group(x)))

    def draw_weight_noise(self, generator: torch.Generator) -> list[Tensor | None]:
        """One standard normal draw per task and layer."""
        return [layer.draw_weight_noise(generator) for layer in self._layers]

    def draw_local_noise(self, groups: int, rows: int, generator: np.random.Generator) -> list[LocalNoise | None]:
        """Noise of the local reparameterisation for (groups, rows) rows, one entry a layer."""
        return [layer.draw_local_noise(groups, rows, generator) for layer in self._layers]

    def kl(self) -> Tensor:
        """(M,) KL to the prior in nats, summed over layers."""
        if not self.num_variational:
            return self._no_kl
        return torch.stack([layer.kl() for layer in self._layers]).sum(0)

    def log_var_parameters(self) -> list[nn.Parameter]:
        """The layers' log variances."""
        return [parameter for layer in self._layers for parameter in layer.log_var_parameters()]
