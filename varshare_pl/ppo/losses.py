"""PPO's losses (Schulman et al. 2017, arXiv 1707.06347): pure functions without coefficients.

The derivatives stand beside the losses: autograd would take ten times as many operations for them, and in a small
network that is where the time goes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from varshare_pl.types import Minibatch


def clipped_surrogate(ratio: Tensor, advantages: Tensor, clip_range: float) -> tuple[Tensor, Tensor]:
    """−min(r A, clip(r, 1 − ε, 1 + ε) A), eq. 7, per row, and its derivative by ln r; all have one shape."""
    gain = ratio * advantages
    clipped = ratio.clamp(1.0 - clip_range, 1.0 + clip_range).mul_(advantages)
    # Inside the range the two are equal, and either has the derivative. What is not a number stays one.
    return torch.minimum(gain, clipped).neg_(), gain.masked_fill(gain > clipped, 0.0).neg_()


def squared_error(
    values: Tensor, returns: Tensor, old_values: Tensor, clip_range: float | None
) -> tuple[Tensor, Tensor]:
    """(V − R)² per row, and its derivative by V.

    With a clip_range the larger of the squared errors of V and of V kept that close to its old value.
    """
    error = values - returns
    if clip_range is None:
        return error.square(), 2.0 * error
    move = values - old_values
    kept = old_values + move.clamp(-clip_range, clip_range) - returns
    first = error.abs() >= kept.abs()
    inside = move.abs() <= clip_range
    return torch.where(first, error, kept).square(), torch.where(first, error, kept * inside).mul_(2.0)


def weighted_losses(
    log_ratio: Tensor,
    entropy: Tensor,
    values: Tensor,
    batch: Minibatch,
    clip_range: float,
    value_clip_range: float | None,
) -> Tensor:
    """Each group's weighted sums of the clipped surrogate, the squared error and the entropy, (3, G).

    Args:
        log_ratio: (G, R) ln r.
        entropy: (G, R).
        values: (G, R) V.
        batch: Has weights, advantages, returns and old values.
        clip_range: ε.
        value_clip_range: See ``squared_error``.
    """
    return _WeightedLosses.apply(log_ratio, entropy, values, batch, clip_range, value_clip_range)  # type: ignore[no-any-return, no-untyped-call]


def weighted_losses_with_pullback(
    rows: tuple[Tensor, Tensor, Tensor], batch: Minibatch, clip_range: float, value_clip_range: float | None
) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, ...]]]:
    """The same without autograd, of rows (log_ratio, entropy, values); and what makes of its gradient (3, G) theirs."""
    log_ratio, entropy, values = rows
    surrogate, by_log_ratio = clipped_surrogate(log_ratio.exp(), batch.advantages, clip_range)
    error, by_value = squared_error(values, batch.returns, batch.values, value_clip_range)
    sums = torch.stack([surrogate, error, entropy]).mul_(batch.weight).sum(-1)
    return sums, partial(_backward, by_log_ratio, by_value, batch.weight)


class _WeightedLosses(torch.autograd.Function):
    """One node of autograd, from the derivatives above."""

    @staticmethod
    def forward(ctx: Any, *rows_and_options: Any) -> Tensor:
        sums, ctx.pullback = weighted_losses_with_pullback(rows_and_options[:3], *rows_and_options[3:])
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return *ctx.pullback(gradient), None, None, None


def _backward(by_log_ratio: Tensor, by_value: Tensor, weight: Tensor, gradient: Tensor) -> tuple[Tensor, ...]:
    policy, value, entropy = (gradient.unsqueeze(-1) * weight).unbind()
    return by_log_ratio * policy, entropy, by_value * value


def approximate_kl(log_ratio: Tensor) -> Tensor:
    """Estimate of KL(old ‖ new) per row, (r − 1) − ln r: unbiased and ≥ 0 (Schulman, "Approximating KL divergence")."""
    return log_ratio.expm1() - log_ratio
