"""FiLM: one network for all tasks whose hidden units each task scales and shifts.

    h = f((1 + γ_m) ∘ (W x + b) + β_m)

γ_m and β_m have one number per hidden unit and task and are 0 at the start, so all tasks start as one shared net. The
head is shared. See E. Perez et al., FiLM: Visual Reasoning with a General Conditioning Layer, AAAI 2018, arXiv
1709.07871.

Deviations:
1. PPO on tasks in place of supervised answers to questions about images: γ and β are learned per task directly, as the
   task is known, not computed from a text by a generator network.
2. Hidden units of a multilayer perceptron are modulated in place of a convolution's feature maps.
3. No batch normalisation before the modulation, and no residual blocks: they would change more than the sharing.
4. Every hidden layer is modulated, of the critic too.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from varshare_pl.networks.initial import orthogonal
from varshare_pl.networks.layer import LayerSpec, LinearWeights, Noise, TaskLinear, of_tasks
from varshare_pl.networks.method import SharingMethod
from varshare_pl.sharing.shared import SharedLinear


class FiLMLinear(TaskLinear):
    """``y = (1 + γ_m) ∘ (W x + b) + β_m``, a shared linear layer with a scale and a shift per task and output.

    Attributes:
        weight: (out, in) shared weights W.
        bias: (out,) shared bias b.
        gamma: (M, out) scales γ less 1, 0 at the start.
        beta: (M, out) shifts β, 0 at the start.
    """

    def __init__(self, in_features: int, out_features: int, num_tasks: int) -> None:
        super().__init__(in_features, out_features, num_tasks)
        self.weight = nn.Parameter(torch.zeros(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.gamma = nn.Parameter(torch.zeros(num_tasks, out_features))
        self.beta = nn.Parameter(torch.zeros(num_tasks, out_features))

    def reset_parameters(self, gain: float, generator: torch.Generator) -> None:
        orthogonal(self.weight, gain, generator)
        for parameter in (self.bias, self.gamma, self.beta):
            nn.init.zeros_(parameter)

    def prepare(self, group_task: Tensor, noise: Noise = None) -> LinearWeights:
        scale, beta = 1.0 + of_tasks(self.gamma, group_task), of_tasks(self.beta, group_task)
        return LinearWeights(scale.unsqueeze(2) * self.weight, torch.addcmul(beta, scale, self.bias).unsqueeze(1))

    def prepare_shared(self, group_task: Tensor) -> LinearWeights:
        scale = 1.0 + self.gamma.mean(0)
        return LinearWeights(scale.unsqueeze(1) * self.weight, scale * self.bias + self.beta.mean(0))

    def shared_and_residual(self) -> tuple[Tensor, Tensor]:
        mean = self.gamma.mean(0)
        return (1.0 + mean).unsqueeze(1) * self.weight, (self.gamma - mean).unsqueeze(2) * self.weight


class FiLM(SharingMethod):
    """One shared net with a scale and a shift per task for each hidden unit."""

    name: ClassVar[str] = "film"

    def make_layer(self, spec: LayerSpec) -> TaskLinear:
        layer = SharedLinear if spec.name == "head" else FiLMLinear
        return layer(spec.in_features, spec.out_features, spec.num_tasks)
