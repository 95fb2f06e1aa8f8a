"""How vectors start by which tasks weigh common parts."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def initial_composition(num_tasks: int, parts: int, generator: torch.Generator) -> Tensor:
    """(M, K) vectors of random direction and length 1, no entry negative.

    A sum of K independent matrices of one scale, so weighed, has that scale; and tasks start neither equal nor opposed.
    """
    drawn = torch.randn(num_tasks, parts, generator=generator).abs()
    return nn.functional.normalize(drawn, dim=1)
