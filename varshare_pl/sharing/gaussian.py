"""The Gaussian posterior's maths, each formula once: sampling, KL, local reparameterisation.

Shapes: M tasks, G task groups, R rows a group; weights are (…, out, in).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from varshare_pl.sharing.elementwise import exp, expm1


class LocalNoise(NamedTuple):
    """Noise of the local reparameterisation (Kingma et al. 2015), drawn per row at the layer's output."""

    zeta: Tensor  # (G, R, out), standard normal

    def of_group(self, group: int) -> LocalNoise:
        """That of one task group, G = 1."""
        return LocalNoise(self.zeta[group : group + 1])


class FlipoutNoise(NamedTuple):
    """Noise of Flipout (Wen et al. 2018, arXiv 1803.04386): a draw of the weights for each task, signs for each row.

    A row's weights are mean + (s_out s_inᵀ) ∘ σ ∘ ε. Signs leave the distribution of σ ε as it is, so that every row
    has the posterior's, and two rows of a task have noise without correlation.
    """

    eps: Tensor  # (M, out, in), standard normal
    sign_in: Tensor  # (G, R, in), −1 or 1
    sign_out: Tensor  # (G, R, out), −1 or 1

    def of_group(self, group: int) -> FlipoutNoise:
        """That of one task group, G = 1; the draws of the weights are still those of all tasks."""
        return FlipoutNoise(self.eps, self.sign_in[group : group + 1], self.sign_out[group : group + 1])


def sample(shared: Tensor, mean: Tensor, log_var: Tensor, eps: Tensor) -> Tensor:
    """``shared + mean + σ ε`` with ``σ = exp(½ log_var)``.

    Args:
        shared: (out, in) the same for all tasks.
        mean: (G, out, in).
        log_var: (G, out, in).
        eps: (G, out, in), standard normal.
    """
    return _Sample.apply(shared, mean, log_var, eps)  # type: ignore[no-any-return, no-untyped-call]


def sample_and_noise(shared: Tensor, mean: Tensor, log_var: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """``sample`` without autograd, and the noise σ ε: d(σ ε)/d log_var = ½ σ ε."""
    noise = exp(0.5 * log_var).mul_(eps)
    return (mean + noise).add_(shared), noise


class _Sample(torch.autograd.Function):
    """One node of autograd."""

    @staticmethod
    def forward(ctx: Any, shared: Tensor, mean: Tensor, log_var: Tensor, eps: Tensor) -> Tensor:
        weights, noise = sample_and_noise(shared, mean, log_var, eps)
        ctx.save_for_backward(noise)
        return weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        (noise,) = ctx.saved_tensors
        return gradient.sum(0), gradient, noise.mul(0.5).mul_(gradient), None


def deviations(log_var: Tensor, eps: Tensor) -> Tensor:
    """``σ ε`` with ``σ = exp(½ log_var)``, both (…, out, in)."""
    return (0.5 * log_var).exp() * eps


def kl_to_prior(mu: Tensor, log_var: Tensor, prior_std: float) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, σ_p²)) in nats, summed over the weights of each task.

    Exact, with no epsilon in the log: ``Σ ½ [σ²/σ_p² + μ²/σ_p² − 1 − ln(σ²/σ_p²)]``.

    Args:
        mu: (M, out, in) means.
        log_var: (M, out, in) log variances.
        prior_std: σ_p > 0.

    Returns:
        (M,) nats, each ≥ 0.
    """
    return _KLToPrior.apply(mu, log_var, prior_std)  # type: ignore[no-any-return, no-untyped-call]


def kl_and_excess(
    mu: Tensor, log_var: Tensor, log_prior_var: float | Tensor, precision: float | Tensor
) -> tuple[Tensor, Tensor]:
    """``kl_to_prior`` without autograd, and σ²/σ_p² − 1: dKL/dμ = μ/σ_p² and dKL/d log_var = ½ (σ²/σ_p² − 1).

    Args:
        mu: (M, …).
        log_var: (M, …).
        log_prior_var: ln σ_p², one or of each weight.
        precision: 1/σ_p², the same.
    """
    relative_log_var = log_var - log_prior_var
    # expm1(x) − x is σ²/σ_p² − 1 − ln(σ²/σ_p²) without the loss of digits that subtracting 1 costs near the prior.
    excess = expm1(relative_log_var)
    terms = torch.sub(excess, relative_log_var, out=relative_log_var).addcmul_(mu, mu * precision)
    return terms.flatten(1).sum(1).mul_(0.5), excess


class _KLToPrior(torch.autograd.Function):
    """One node of autograd."""

    @staticmethod
    def forward(ctx: Any, mu: Tensor, log_var: Tensor, prior_std: float) -> Tensor:
        ctx.precision = prior_std**-2
        kl, excess = kl_and_excess(mu, log_var, 2.0 * math.log(prior_std), ctx.precision)
        ctx.save_for_backward(mu, excess)
        return kl

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        mu, excess = ctx.saved_tensors
        gradient = gradient.view(-1, *[1] * (mu.dim() - 1))
        return mu * (gradient * ctx.precision), excess * (gradient * 0.5), None


def kl_to_learned_prior(mu: Tensor, log_var: Tensor, log_prior_std: Tensor) -> Tensor:
    """``kl_to_prior`` with a gradient in log σ_p too: Σ [1 − σ²/σ_p² − μ²/σ_p²].

    Args:
        mu: (M, out, in) means.
        log_var: (M, out, in) log variances.
        log_prior_std: () log σ_p.

    Returns:
        (M,) nats, each ≥ 0.
    """
    relative_log_var = log_var - 2.0 * log_prior_std
    terms = relative_log_var.expm1() - relative_log_var + mu.square() * (-2.0 * log_prior_std).exp()
    return 0.5 * terms.flatten(1).sum(1)


def mean_to_prior(mu: Tensor, prior_std: float) -> Tensor:
    """The part of the KL that is left of ``kl_to_prior`` without σ: ``Σ ½ μ²/σ_p²``, (M,)."""
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
    return torch.addcmul(mean_output, output_variance.clamp_min(tiny).sqrt(), zeta)
