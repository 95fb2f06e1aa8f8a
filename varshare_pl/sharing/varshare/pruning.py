"""Pruning a trained VarShare: what a task has of its own is dropped where it is small against its uncertainty.

    θ̄ = θ + mean_m μ_m,   μ̃_m = μ_m − mean_m μ_m,   μ̃ ← 0 where |μ̃| < T σ

It starts from θ̄ and μ̃, since θ and μ say nothing apart: (θ + c, μ_m − c) is the same function for every c. What is left
is one dense network θ̄ and sparse differences.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from varshare_pl.sharing.varshare.linear import VarShareLinear


def prunable_layers(network: nn.Module) -> dict[str, VarShareLinear]:
    """The layers that have residuals with a σ, by their names in the network."""
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, VarShareLinear)}


@torch.no_grad()
def prune_(layer: VarShareLinear, threshold: float) -> Tensor:
    """Prune a layer in place.

    Args:
        layer: Gets θ̄ as θ and the pruned μ̃ as μ; its log variances stay.
        threshold: T ≥ 0; 0 drops nothing.

    Returns:
        (M,) how many of a task's μ̃ are left.
    """
    theta, mu = layer.shared_and_residual()
    left = mu.abs() >= threshold * layer.sigma()
    layer.theta.copy_(theta)
    layer.mu.copy_(mu * left)
    return left.flatten(1).sum(1)


@torch.no_grad()
def mean_log_var(layer: VarShareLinear) -> Tensor:
    """(M, 1, 1) the log of each task's mean variance: what a pruned checkpoint keeps of log_var."""
    count = layer.num_variational
    return layer.log_var.flatten(1).logsumexp(1).sub(math.log(count)).view(-1, 1, 1)
