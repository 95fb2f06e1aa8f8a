"""A mixture of experts: what MOORE is without orthogonality, its ablation (Hendawy et al. 2024, arXiv 2311.11385).

    y = head_m(activation(Σ_k w_mk expert_k(x)))

K experts, whole trunks, are common to all tasks; a task weighs their outputs by its vector w_m, whatever the row, and
has a head of its own.

Where this differs from the paper and its authors' code: as MOORE does, see ``moore``, points 1 and 3.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from jsonargparse.typing import PositiveInt

from varshare_pl.networks.method import SharingMethod
from varshare_pl.networks.network import NetworkSpec
from varshare_pl.sharing.moore import ExpertNetwork


class Mixture(SharingMethod):
    """Experts weighed by each task, and a head per task.

    Args:
        num_experts: K, the number of experts.
    """

    name: ClassVar[str] = "mixture"

    def __init__(self, num_experts: PositiveInt = 4) -> None:
        self.num_experts = num_experts

    def make_network(self, spec: NetworkSpec, generator: torch.Generator) -> ExpertNetwork:
        return ExpertNetwork(spec, self.num_experts, orthogonal_experts=False, generator=generator)
