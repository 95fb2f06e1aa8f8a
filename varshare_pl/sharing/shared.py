"""One network for all tasks, which never learns which task it is in: full sharing.

    y = W x + b   in every layer

It has the fewest parameters and learns from every task's data at once, but it can only act alike where observations are
alike: tasks that ask for different actions there cannot all be solved. It is plain PPO, J. Schulman et al., 2017, arXiv
1707.06347, on the pooled tasks. What is different here: every task weighs the same in the loss, and advantages are
normalised per task.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from varshare_pl.networks.initial import orthogonal
from varshare_pl.networks.layer import LayerSpec, LinearWeights, Noise, TaskLinear
from varshare_pl.networks.method import SharingMethod


class SharedLinear(TaskLinear):
    """``y = W x + b`` with weight (out, in) and bias (out,) shared by all tasks."""

    def __init__(self, in_features: int, out_features: int, num_tasks: int) -> None:
        super().__init__(in_features, out_features, num_tasks)
        self.weight = nn.Parameter(torch.zeros(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))

    def reset_parameters(self, gain: float, generator: torch.Generator) -> None:
        orthogonal(self.weight, gain, generator)
        nn.init.zeros_(self.bias)

    def prepare(self, group_task: Tensor, noise: Noise = None) -> LinearWeights:
        return LinearWeights(self.weight, self.bias)


class Shared(SharingMethod):
    """One shared net without a task id: full sharing."""

    name: ClassVar[str] = "shared"

    def make_layer(self, spec: LayerSpec) -> SharedLinear:
        return SharedLinear(spec.in_features, spec.out_features, spec.num_tasks)
