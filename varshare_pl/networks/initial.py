"""How weights start."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def orthogonal(weight: Tensor, gain: float, generator: torch.Generator) -> None:
    """Fill weight (out, in) with an orthogonal matrix scaled by gain, a stack (K, out, in) with one each."""
    for matrix in weight.unbind() if weight.dim() == 3 else (weight,):
        nn.init.orthogonal_(matrix, gain=gain, generator=generator)


def initial_composition(num_tasks: int, parts: int, generator: torch.Generator) -> Tensor:
    """(M, K) vectors of random direction and length 1, no entry negative, by which tasks weigh K common parts.

    A sum of K independent matrices of one scale, so weighed, has that scale; and tasks start neither equal nor opposed.
    """
    drawn = torch.randn(num_tasks, parts, generator=generator).abs()
    return nn.functional.normalize(drawn, dim=1)
