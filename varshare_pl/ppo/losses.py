"""PPO's losses per row: pure functions without coefficients (Schulman et al. 2017, arXiv 1707.06347)."""

from __future__ import annotations

import torch
from torch import Tensor


def clipped_surrogate(ratio: Tensor, advantages: Tensor, clip_range: float) -> Tensor:
    """−min(r A, clip(r, 1 − ε, 1 + ε) A), eq. 7, per row; ratio and advantages have one shape."""
    return -torch.minimum(ratio * advantages, ratio.clamp(1.0 - clip_range, 1.0 + clip_range) * advantages)


def squared_error(values: Tensor, returns: Tensor) -> Tensor:
    """(V − R)² per row."""
    return (values - returns).square()


def clipped_squared_error(values: Tensor, old_values: Tensor, returns: Tensor, clip_range: float) -> Tensor:
    """The larger of the squared errors of V and of V kept within clip_range of its old value, per row."""
    kept = old_values + (values - old_values).clamp(-clip_range, clip_range)
    return torch.maximum(squared_error(values, returns), squared_error(kept, returns))


def approximate_kl(log_ratio: Tensor) -> Tensor:
    """Estimate of KL(old ‖ new) per row, (r − 1) − ln r: unbiased and ≥ 0 (Schulman, "Approximating KL divergence")."""
    return log_ratio.expm1() - log_ratio
