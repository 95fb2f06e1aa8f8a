"""Generalised advantage estimation with time limits treated as what they are.

Schulman et al. 2016 (arXiv 1506.02438), eqs. 11–16; Pardo et al. 2018 (arXiv 1712.00378) on time limits.
"""

from __future__ import annotations

import torch
from torch import Tensor


def gae(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """Advantages of T steps of N envs.

    δ_t = r_t + γ (1 − terminated_t) V(s'_t) − V(s_t) and A_t = δ_t + γ λ (1 − done_t) A_{t+1}: a termination masks the
    bootstrap, while a truncation only cuts the trace and bootstraps from the observation at which the episode was cut.

    Args:
        rewards: (T, N).
        values: (T, N) V of the observations acted on.
        next_values: (T, N) V of the observations that followed, the final one where an episode was truncated.
        terminated: (T, N) bool.
        truncated: (T, N) bool.
        gamma: Discount γ.
        gae_lambda: λ.

    Returns:
        (T, N) advantages; value targets are advantages + values.
    """
    delta = rewards + gamma * next_values.masked_fill(terminated, 0.0) - values
    trace = (gamma * gae_lambda) * (~(terminated | truncated)).to(values.dtype)
    advantages = torch.empty_like(values)
    running = torch.zeros_like(values[0])
    for step in zip(reversed(advantages.unbind()), reversed(delta.unbind()), reversed(trace.unbind()), strict=True):
        running = torch.addcmul(step[1], step[2], running, out=step[0])
    return advantages
