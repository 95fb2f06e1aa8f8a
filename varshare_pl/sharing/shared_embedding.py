"""One network for all tasks that reads a learned embedding of the task beside the observation.

    y = W [x, e_m] + b,   e_m ~ N(0, s²) at the start

e_m is a vector of E numbers for task m, learned along with the weights; only the first layer reads it. A one-hot vector
gives each task a direction of its own; embeddings let tasks that are alike come close. See N. Hansen et al., TD-MPC2,
2023, arXiv 2310.16828.

Deviations:
1. PPO in place of a world model with planning: actor and critic read the embedding, each one of its own, and nothing
   else does.
2. The embedding is read once, at the input, and not by every part of the network.
3. E is 8, not 96, and the embedding's norm is not held to 1: the suites here have few tasks.
4. It starts from N(0, s²) with s = 1, as an embedding in torch does, not from numbers close to 0.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from jsonargparse.typing import PositiveInt
from torch import Tensor, nn

from varshare_pl.networks.checks import check_count, check_positive
from varshare_pl.networks.initial import orthogonal
from varshare_pl.networks.layer import LayerSpec, LinearWeights, Noise, TaskLinear, of_tasks
from varshare_pl.networks.method import SharingMethod
from varshare_pl.sharing.shared import SharedLinear


class EmbeddingLinear(TaskLinear):
    """``y = W [x, e_m] + b`` with weight (out, in + E), bias (out,) and embedding (M, E).

    The part of W that meets the embedding is computed as a bias per task, so no input is widened.

    Args:
        in_features: Size of an input row.
        out_features: Size of an output row.
        num_tasks: Number of tasks M.
        embedding_size: E.
        embedding_scale: Standard deviation of the embedding at the start.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_tasks: int,
        embedding_size: int = 8,
        embedding_scale: float = 1.0,
    ) -> None:
        super().__init__(in_features, out_features, num_tasks)
        check_count("embedding_size", embedding_size)
        check_positive("embedding_scale", embedding_scale)
        self.embedding_size = embedding_size
        self.embedding_scale = embedding_scale
        self.weight = nn.Parameter(torch.zeros(out_features, in_features + embedding_size))
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.embedding = nn.Parameter(torch.zeros(num_tasks, embedding_size))

    def reset_parameters(self, gain: float, generator: torch.Generator) -> None:
        orthogonal(self.weight, gain, generator)
        nn.init.zeros_(self.bias)
        nn.init.normal_(self.embedding, std=self.embedding_scale, generator=generator)

    def prepare(self, group_task: Tensor, noise: Noise = None) -> LinearWeights:
        of_x, of_embedding = self.weight.tensor_split([self.in_features], dim=1)
        embedding = of_tasks(self.embedding, group_task)
        return LinearWeights(of_x, torch.addmm(self.bias, embedding, of_embedding.mT).unsqueeze(1))

    def prepare_shared(self, group_task: Tensor) -> LinearWeights:
        of_x, of_embedding = self.weight.tensor_split([self.in_features], dim=1)
        return LinearWeights(of_x, torch.addmv(self.bias, of_embedding, self.embedding.mean(0)))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, embedding_size={self.embedding_size}"


class SharedEmbedding(SharingMethod):
    """One shared net whose input holds a learned embedding of the task; actor and critic have one each.

    Args:
        embedding_size: Numbers in a task's embedding.
        embedding_scale: Their standard deviation at the start.
    """

    name: ClassVar[str] = "shared_embedding"

    def __init__(self, embedding_size: PositiveInt = 8, embedding_scale: float = 1.0) -> None:
        self.embedding_size = embedding_size
        self.embedding_scale = embedding_scale

    def make_layer(self, spec: LayerSpec) -> TaskLinear:
        sizes = (spec.in_features, spec.out_features, spec.num_tasks)
        if spec.index == 0:
            return EmbeddingLinear(*sizes, self.embedding_size, self.embedding_scale)
        return SharedLinear(*sizes)
