"""Generalised advantage estimation with time limits treated as what they are, and what is done with its results.

Schulman et al. 2016 (arXiv 1506.02438), eqs. 11–16; Pardo et al. 2018 (arXiv 1712.00378) on time limits.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from varshare_pl.parallel import statistics_by_task

AdvantageNorm = Literal["task", "pooled", "none"]
ROUNDING = 4.0  # units in the last place, of advantages as large as they are, up to which they count as equal


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
    advantages, running = torch.empty_like(values), torch.zeros_like(values[0])
    for t in reversed(range(len(rewards))):
        running = torch.addcmul(delta[t], trace[t], running, out=advantages[t])
    return advantages


def normalise_advantages(advantages: Tensor, task: Tensor, num_tasks: int, mode: AdvantageNorm) -> Tensor:
    """Advantages with mean 0 and standard deviation 1, over the rows of all processes; 0 where they are all equal.

    Args:
        advantages: (rows,).
        task: (rows,) int64.
        num_tasks: M.
        mode: "task": within each task; "pooled": over all rows; "none": unchanged.

    Returns:
        (rows,).
    """
    if mode == "none":
        return advantages
    if mode == "pooled":
        task, num_tasks = torch.zeros_like(task), 1
    _, mean, variance = statistics_by_task(advantages, task, num_tasks)
    std, size = variance.sqrt(), (variance + mean.square()).sqrt()
    equal = std <= ROUNDING * torch.finfo(advantages.dtype).eps * size  # not so where it is not a number
    normalised = (advantages - mean[task]) / (std + 1e-8)[task]
    return torch.where(equal[task], 0.0, normalised).to(advantages.dtype)


def explained_variance(values: Tensor, returns: Tensor, task: Tensor, num_tasks: int) -> float:
    """The mean over tasks of 1 − Var(R − V) / Var(R); 1 is perfect, 0 no better than each task's mean.

    Over all rows together a critic that knows nothing but each task's mean would get nearly 1 where tasks differ.
    Tasks whose returns are all equal do not count; NaN where no task is left.

    Args:
        values: (rows,) V.
        returns: (rows,) R, its targets.
        task: (rows,) int64.
        num_tasks: M.
    """
    variance = statistics_by_task(torch.stack([returns, returns - values], 1), task, num_tasks)[2]
    whole, left = variance[variance[:, 0] > 0].unbind(1)
    return float((1.0 - left / whole).mean())
