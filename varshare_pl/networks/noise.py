"""Draws of a layer's noise; None for a layer without noise.

All are drawn on the CPU, so that a seed gives the same numbers on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from varshare_pl.networks.gaussian import LocalNoise
from varshare_pl.networks.layer import TaskLinear, VariationalLayer


def weight_noise(layer: TaskLinear, generator: torch.Generator) -> Tensor | None:
    """One standard normal draw of the weights for each task."""
    if not isinstance(layer, VariationalLayer):
        return None
    return _normal(layer, layer.noise_shape.weights, generator)


def local_noise(layer: TaskLinear, groups: int, rows: int, generator: torch.Generator) -> LocalNoise | None:
    """Noise of the local reparameterisation for (groups, rows) rows."""
    if not isinstance(layer, VariationalLayer):
        return None
    return LocalNoise(_normal(layer, (groups, rows, layer.noise_shape.outputs), generator))


def _normal(layer: TaskLinear, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    like = next(layer.parameters())
    return torch.randn(shape, generator=generator, dtype=like.dtype).to(like.device)
