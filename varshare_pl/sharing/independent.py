"""A network of its own for each task: the single-task reference, trained side by side.

    y = W_m x + b_m   in every layer

Tasks have nothing in common: none helps another and none disturbs another, and each learns from its own share of the
env steps alone. It is M times plain PPO, J. Schulman et al., 2017, arXiv 1707.06347. What is different here: all
tasks are trained in the same steps, with one Adam; the gradient's norm is clipped over all tasks' actors together,
and over all their critics.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from varshare_pl.networks.encoder import ImageEncoder, ImageSpec
from varshare_pl.networks.initial import orthogonal
from varshare_pl.networks.layer import LayerSpec, LinearWeights, NewTask, Noise, TaskLinear, of_tasks
from varshare_pl.networks.method import SharingMethod


class IndependentLinear(TaskLinear):
    """``y = W_m x + b_m`` with weight (M, out, in) and bias (M, out), nothing shared."""

    new_task: ClassVar[Mapping[str, NewTask]] = {"weight": "own", "bias": "own"}

    def __init__(self, in_features: int, out_features: int, num_tasks: int) -> None:
        super().__init__(in_features, out_features, num_tasks)
        self.weight = nn.Parameter(torch.zeros(num_tasks, out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(num_tasks, out_features))

    def reset_parameters(self, gain: float, generator: torch.Generator) -> None:
        orthogonal(self.weight, gain, generator)
        nn.init.zeros_(self.bias)

    def prepare(self, group_task: Tensor, noise: Noise = None) -> LinearWeights:
        return LinearWeights(of_tasks(self.weight, group_task), of_tasks(self.bias, group_task).unsqueeze(1))

    def prepare_shared(self, group_task: Tensor) -> LinearWeights:
        weight, bias = self.weight.mean(0), self.bias.mean(0)
        return LinearWeights(weight, bias)

    def shared_and_residual(self) -> tuple[Tensor, Tensor]:
        mean = self.weight.mean(0)
        return mean, self.weight - mean


class Independent(SharingMethod):
    """Independent nets, one per task: no sharing."""

    name: ClassVar[str] = "independent"

    def make_layer(self, spec: LayerSpec) -> IndependentLinear:
        return IndependentLinear(spec.in_features, spec.out_features, spec.num_tasks)

    def make_encoder(self, spec: ImageSpec, generator: torch.Generator) -> ImageEncoder:
        """One for each task."""
        return ImageEncoder(spec, generator, per_task=True)
