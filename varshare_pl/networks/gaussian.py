"""The Gaussian posterior's maths, each formula once: sampling, KL, local reparameterisation.

Shapes: M tasks, G task groups, R rows a group; weights are (…, out, in).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class LocalNoise(NamedTuple):
    """Noise of the local reparameterisation (Kingma et al. 2015), drawn per row at the layer's output."""

    zeta: Tensor  # (G, R, out), standard normal

    def of_group(self, group: int) -> LocalNoise:
        """That of one task group, G = 1."""
        return LocalNoise(self.zeta[group : group + 1])


def deviations(log_var: Tensor, eps: Tensor) -> Tensor:
    """``σ ε`` with ``σ = exp(½ log_var)``; log_var and the standard normal eps have one shape, (…, out, in)."""
    return (0.5 * log_var).exp() * eps


def kl_to_prior(mu: Tensor, log_var: Tensor, prior_std: float | Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, σ_p²)) in nats, summed over the weights of each task.

    Exact, with no epsilon in the log: ``Σ ½ [σ²/σ_p² + μ²/σ_p² − 1 − ln(σ²/σ_p²)]``.

    Args:
        mu: (M, out, in) means.
        log_var: (M, out, in) log variances.
        prior_std: σ_p > 0; a tensor () has a gradient too.

    Returns:
        (M,) nats, each ≥ 0.
    """
    log_prior_std = prior_std.log() if isinstance(prior_std, Tensor) else math.log(prior_std)
    relative_log_var = log_var - 2.0 * log_prior_std
    # expm1(x) − x is σ²/σ_p² − 1 − ln(σ²/σ_p²) without the loss of digits that subtracting 1 costs near the prior.
    of_variance = relative_log_var.expm1() - relative_log_var
    return 0.5 * of_variance.flatten(1).sum(1) + mean_to_prior(mu, prior_std)


def mean_to_prior(mu: Tensor, prior_std: float | Tensor) -> Tensor:
    """The part of ``kl_to_prior`` that is left without σ: ``Σ ½ μ²/σ_p²``, (M,)."""
    return 0.5 * prior_std**-2 * mu.square().flatten(1).sum(1)


def local_output(mean_output: Tensor, x: Tensor, variance: Tensor, zeta: Tensor) -> Tensor:
    """``mean_output + √(x² · σ²) ζ``: the distribution of ``W x`` under independent weights, sampled per row.

    Args:
        mean_output: (G, R, out) output at the posterior mean.
        x: (G, R, in).
        variance: (G, out, in) σ² of the weights.
        zeta: (G, R, out) standard normal.
    """
    output_variance = torch.bmm(x * x, variance.mT)
    # A row of zeros has no variance, and the square root no gradient there: the smallest normal number keeps it finite.
    tiny = torch.finfo(output_variance.dtype).tiny
    return torch.addcmul(mean_output, (output_variance + tiny).sqrt(), zeta)
