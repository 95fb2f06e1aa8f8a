"""MOORE: a mixture of experts whose representations are made orthogonal (Hendawy et al. 2024, arXiv 2311.11385).

    v_k = expert_k(x),   q_1 … q_K = GramSchmidt(v_1 … v_K),   y = head_m(activation(Σ_k w_mk q_k))

K experts, whole trunks, are common to all tasks. Of each row their outputs are made orthonormal, so that no two experts
can represent the same; a task weighs them by its vector w_m and has a head of its own. An expert's last layer has no
activation: it comes after the sum.

Where this differs from the paper and its authors' code:

1. The experts are multilayer perceptrons of ``hidden_sizes``. The authors' PPO has convolutions, for pictures, and one
   more hidden layer in each head.
2. Gram–Schmidt in its modified form, equal but for rounding, and safe: a vector is divided by √(‖v‖² + ε²), ε = 1e-4.
   One of length 0.1 so gets length 1 − 5e-7. One of length 0, as where an expert's output depends on those before it,
   stays 0 with a gradient of at most 1/ε, where the plain form gives NaN.
3. Weights start as those of every other method, orthogonal with biases of 0, and w_m at length 1 and not negative;
   there, by torch's defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from jsonargparse.typing import PositiveInt
from torch import Tensor, nn

from varshare_pl.errors import ConfigError
from varshare_pl.networks.activations import ACTIVATIONS
from varshare_pl.networks.checks import check_count
from varshare_pl.networks.initial import initial_composition, orthogonal
from varshare_pl.networks.layer import LinearWeights, NewTask, Noise, of_tasks
from varshare_pl.networks.method import SharingMethod
from varshare_pl.networks.network import NetworkSpec, TaskNetwork, mlp

EPSILON = 1e-4


def orthonormal(vectors: Tensor) -> Tensor:
    """K vectors of each row, (K, …, H), made orthonormal by Gram–Schmidt, first to last; see above for ``EPSILON``."""
    rest, basis = vectors, []
    while True:
        vector = rest[0]
        unit = vector * torch.rsqrt((vector * vector).sum(-1, keepdim=True) + EPSILON**2)
        basis.append(unit)
        if len(rest) == 1:
            return torch.stack(basis)
        rest = rest[1:]
        rest = rest - (rest * unit).sum(-1, keepdim=True) * unit


class PreparedExperts(NamedTuple):
    """What the rows of some groups need."""

    experts: list[LinearWeights]  # of each layer, weights (K, out, in) and biases (K, 1, out)
    composition: Tensor  # (G, K)
    head: LinearWeights  # (G, out, in) and (G, 1, out)


class ExpertNetwork(TaskNetwork):
    """Experts for all tasks, weighed by each task, and a head per task.

    Args:
        spec: The sizes.
        num_experts: K.
        orthogonal_experts: Make the experts' representations orthonormal before they are weighed.
        generator: Draws the initial weights.

    Attributes:
        weights: Of each hidden layer (K, out, in), input first.
        biases: (K, out) each.
        composition: (M, K) vectors w that a task weighs the experts with.
        head_weight: (M, out, in).
        head_bias: (M, out).
    """

    new_task: ClassVar[Mapping[str, NewTask]] = {"head_weight": "own", "head_bias": "own"}

    def __init__(
        self, spec: NetworkSpec, num_experts: int, orthogonal_experts: bool, generator: torch.Generator
    ) -> None:
        super().__init__(spec.num_tasks)
        check_count("num_experts", num_experts)
        width = spec.hidden_sizes[-1]
        if orthogonal_experts and num_experts > width:
            raise ConfigError(
                f"num_experts: {num_experts} is not allowed; at most {width}, the units of the last hidden layer, "
                f"can be orthogonal"
            )
        self.num_experts = num_experts
        self.orthogonal_experts = orthogonal_experts
        self.activation = ACTIVATIONS[spec.activation]
        sizes = [spec.in_features, *spec.hidden_sizes]
        shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
        self.weights = nn.ParameterList(_stack(num_experts, *shape, spec.hidden_gain, generator) for shape in shapes)
        self.biases = nn.ParameterList(torch.zeros(num_experts, fan_out) for fan_out, _ in shapes)
        self.composition = nn.Parameter(initial_composition(spec.num_tasks, num_experts, generator))
        self.head_weight = nn.Parameter(_stack(spec.num_tasks, spec.out_features, width, spec.head_gain, generator))
        self.head_bias = nn.Parameter(torch.zeros(spec.num_tasks, spec.out_features))

    def prepare(self, group_task: Tensor, noise: Sequence[Noise] | None = None) -> PreparedExperts:
        own = (self.composition, self.head_weight, self.head_bias)
        return self._prepared(*(of_tasks(parameter, group_task) for parameter in own))

    def prepare_shared(self, group_task: Tensor) -> PreparedExperts:
        """With the mean of the tasks' own parameters for every task."""
        own = (self.composition, self.head_weight, self.head_bias)
        return self._prepared(*(p.mean(0, keepdim=True).expand(len(group_task), *p.shape[1:]) for p in own))

    def _prepared(self, composition: Tensor, weight: Tensor, bias: Tensor) -> PreparedExperts:
        experts = [LinearWeights(w, b.unsqueeze(1)) for w, b in zip(self.weights, self.biases, strict=True)]
        return PreparedExperts(experts, composition, LinearWeights(weight, bias.unsqueeze(1)))

    def representations(self, prepared: PreparedExperts, x: Tensor) -> Tensor:
        """What the experts make of rows x (G, R, in): (K, G, R, H)."""
        rows = x.reshape(1, -1, x.shape[-1]).expand(self.num_experts, -1, -1)
        vectors = mlp(rows, prepared.experts, self.activation)
        vectors = orthonormal(vectors) if self.orthogonal_experts else vectors
        return vectors.reshape(self.num_experts, *x.shape[:2], -1)

    def compute(self, prepared: PreparedExperts, x: Tensor) -> Tensor:
        weighed = self.representations(prepared, x) * prepared.composition.mT[:, :, None, None]
        return prepared.head.apply(self.activation(weighed.sum(0))).to(x.dtype)


def _stack(count: int, fan_out: int, fan_in: int, gain: float, generator: torch.Generator) -> Tensor:
    stack = torch.empty(count, fan_out, fan_in)
    orthogonal(stack, gain, generator)
    return stack


class MOORE(SharingMethod):
    """Experts with orthogonal representations, weighed by each task, and a head per task (MOORE).

    Args:
        num_experts: K, the number of experts; at most the width of the last hidden layer.
    """

    name: ClassVar[str] = "moore"

    def __init__(self, num_experts: PositiveInt = 4) -> None:
        self.num_experts = num_experts

    def make_network(self, spec: NetworkSpec, generator: torch.Generator) -> ExpertNetwork:
        return ExpertNetwork(spec, self.num_experts, orthogonal_experts=True, generator=generator)
