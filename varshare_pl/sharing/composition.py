"""What methods need that weigh common parts by task: composition vectors, and networks of prepared layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from varshare_pl.sharing.activations import Activation
from varshare_pl.sharing.base import Prepared
from varshare_pl.sharing.fused import mlp


def initial_composition(num_tasks: int, parts: int, generator: torch.Generator) -> Tensor:
    """(M, K) vectors of random direction and length 1, no entry negative.

    A sum of K independent matrices of one scale, so weighed, has that scale; and tasks start neither equal nor opposed.
    """
    drawn = torch.randn(num_tasks, parts, generator=generator).abs()
    return nn.functional.normalize(drawn, dim=1)


def network(x: Tensor, prepared: Sequence[Prepared], activation: Activation) -> Tensor:
    """Rows x (B, R, in) through layers with weights (B, out, in) and biases (B, 1, out), the activation between them.

    Under autocast, which does not look into the fused form, layer by layer, and then the output has autocast's type.
    """
    if not torch.is_autocast_enabled(x.device.type):
        return mlp(x, prepared, activation)
    *hidden, last = prepared
    for weights in hidden:
        x = activation.function(torch.baddbmm(weights.bias, x, weights.weight.mT))
    return torch.baddbmm(last.bias, x, last.weight.mT)
