"""PaCo: every task's parameters are a weighted sum of a few parameter sets (Sun et al. 2022, arXiv 2210.11653).

    θ_m = Σ_k w_mk Φ_k,   k = 1 … K

θ_m holds the weights and biases of all layers of a network, head included. The sets Φ_k are common to all tasks; the
composition vector w_m is all that a task has of its own. With K = 1 tasks differ by a factor only, with K ≥ M they can
be independent.

Where this differs from the paper and its authors' code:

1. PPO instead of SAC. So what they do against the losses of SAC that explode is left out: to mask the loss of such a
   task, and to set its w_m anew to a mixture of the other tasks' (w-reset).
2. Actor and critic have a w_m each, as they have parameters each; there, one w_m goes into both.
3. The sets start as independent orthogonal matrices, w_m at length 1 and not negative, so that W_m starts at about the
   scale of every other method. There, all sets start alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jsonargparse.typing import PositiveInt
from torch import Tensor, nn

from varshare_pl.networks.activations import ACTIVATIONS
from varshare_pl.networks.checks import check_count
from varshare_pl.networks.initial import initial_composition, orthogonal
from varshare_pl.networks.layer import LinearWeights, Noise, of_tasks
from varshare_pl.networks.method import SharingMethod
from varshare_pl.networks.network import NetworkSpec, TaskNetwork, mlp


class PaCoNetwork(TaskNetwork):
    """A multilayer perceptron with parameters ``θ_m = Σ_k w_mk Φ_k``.

    Args:
        spec: The sizes.
        num_sets: K.
        generator: Draws the initial weights.

    Attributes:
        sets: (K, P) parameter sets Φ; of each layer, input first, the weight (out, in) and then the bias.
        composition: (M, K) composition vectors w.
    """

    def __init__(self, spec: NetworkSpec, num_sets: int, generator: torch.Generator) -> None:
        super().__init__(spec.num_tasks)
        check_count("num_sets", num_sets)
        self.activation = ACTIVATIONS[spec.activation]
        sizes = [spec.in_features, *spec.hidden_sizes, spec.out_features]
        self._shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
        self._lengths = [length for fan_out, fan_in in self._shapes for length in (fan_out * fan_in, fan_out)]
        sets = torch.zeros(num_sets, sum(self._lengths))
        layers = self._layers(sets)
        for layer in layers:
            orthogonal(layer.weight, spec.head_gain if layer is layers[-1] else spec.hidden_gain, generator)
        self.sets = nn.Parameter(sets)
        self.composition = nn.Parameter(initial_composition(spec.num_tasks, num_sets, generator))

    def prepare(self, group_task: Tensor, noise: Sequence[Noise] | None = None) -> list[LinearWeights]:
        return self._compose(of_tasks(self.composition, group_task))

    def prepare_shared(self, group_task: Tensor) -> list[LinearWeights]:
        """With the mean composition vector for every task."""
        return self._compose(self.composition.mean(0).expand(len(group_task), -1))

    def _compose(self, composition: Tensor) -> list[LinearWeights]:
        with torch.autocast(composition.device.type, enabled=False):  # weights keep their type
            return self._layers(composition @ self.sets)

    def _layers(self, flat: Tensor) -> list[LinearWeights]:
        """(G, P) parameters as layers, views of them."""
        pieces = iter(torch.split(flat, self._lengths, dim=1))
        return [LinearWeights(next(pieces).view(-1, *shape), next(pieces).unsqueeze(1)) for shape in self._shapes]

    def compute(self, prepared: Sequence[LinearWeights], x: Tensor) -> Tensor:
        return mlp(x, prepared, self.activation)


class PaCo(SharingMethod):
    """Every task's network is a weighted sum of a few parameter sets (PaCo).

    Args:
        num_sets: K, the number of parameter sets. The more, the less tasks have to share; 5 in the paper.
    """

    name: ClassVar[str] = "paco"

    def __init__(self, num_sets: PositiveInt = 5) -> None:
        self.num_sets = num_sets

    def make_network(self, spec: NetworkSpec, generator: torch.Generator) -> PaCoNetwork:
        return PaCoNetwork(spec, self.num_sets, generator)
