"""One network for all tasks that reads the task as a one-hot vector beside the observation.

    y = W [x, onehot(m)] + b   in the first layer,   y = W x + b in all others

A task can shift the first layer's units and nothing else; all further weights are shared. It is how T. Yu et al.,
Meta-World, 2019, arXiv 1910.10897, tell PPO, TRPO and SAC the task. What is different here:

1. The one-hot part picks a column of W, so it is computed as a bias per task and no observation is made longer.
2. Weights start orthogonal as everywhere here, the columns of the tasks included.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from varshare_pl.networks.initial import orthogonal
from varshare_pl.networks.layer import LayerSpec, LinearWeights, NewTask, Noise, TaskLinear
from varshare_pl.networks.method import SharingMethod
from varshare_pl.sharing.shared import SharedLinear


class OneHotLinear(TaskLinear):
    """``y = W [x, onehot(m)] + b`` with weight (out, in + M) and bias (out,).

    The one-hot part picks column ``in + m`` of W, so it is computed as a bias per task and no input is widened.
    """

    new_task: ClassVar[Mapping[str, NewTask]] = {"weight": "zero"}

    def __init__(self, in_features: int, out_features: int, num_tasks: int) -> None:
        super().__init__(in_features, out_features, num_tasks)
        self.weight = nn.Parameter(torch.zeros(out_features, in_features + num_tasks))
        self.bias = nn.Parameter(torch.zeros(out_features))

    def reset_parameters(self, gain: float, generator: torch.Generator) -> None:
        orthogonal(self.weight, gain, generator)
        nn.init.zeros_(self.bias)

    def prepare(self, group_task: Tensor, noise: Noise = None) -> LinearWeights:
        columns = self.weight[:, self.in_features + group_task]  # (out, G)
        return LinearWeights(self.weight[:, : self.in_features], (self.bias + columns.mT).unsqueeze(1))

    def active_parameters(self) -> int:
        """Without the columns of the other tasks."""
        return self.out_features * (self.in_features + 2)


class SharedOneHot(SharingMethod):
    """One shared net whose input holds the task id as a one-hot vector."""

    name: ClassVar[str] = "shared_onehot"

    def make_layer(self, spec: LayerSpec) -> TaskLinear:
        layer = OneHotLinear if spec.index == 0 else SharedLinear
        return layer(spec.in_features, spec.out_features, spec.num_tasks)
