"""Adam over parameter groups for actor, critic and log variances, and the clipping of each network's gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from varshare_pl.errors import NonFiniteError
from varshare_pl.policy.actor_critic import ActorCritic
from varshare_pl.ppo.update import GradientNorms


def build_optimizer(
    policy: ActorCritic, lr_actor: float, lr_critic: float, lr_log_var: float | None, eps: float, eps_log_var: float
) -> torch.optim.Adam:
    """Fused Adam.

    Log variances get groups of their own with a small epsilon: the weighted KL's gradient in them is about 1e-6, which
    Adam's usual 1e-5 would drown, and σ would stay where it started.

    Args:
        policy: Whose parameters are trained.
        lr_actor: Learning rate of the actor.
        lr_critic: Learning rate of the critic.
        lr_log_var: Learning rate of log variances; None: their network's.
        eps: Adam's epsilon.
        eps_log_var: Adam's epsilon for log variances.
    """
    groups: list[dict[str, Any]] = []
    for (name, torso), lr in zip(policy.networks(), (lr_actor, lr_critic), strict=True):
        log_vars = torso.log_var_parameters()
        special = {id(p) for p in log_vars}
        others = [p for p in torso.parameters() if id(p) not in special]
        groups.append({"params": others, "lr": lr, "eps": eps, "name": name})
        if log_vars:
            lr_here = lr if lr_log_var is None else lr_log_var
            groups.append({"params": log_vars, "lr": lr_here, "eps": eps_log_var, "name": f"{name}_log_var"})
    for group in groups:
        # Plain numbers: these go into checkpoints, which hold no class but torch's own.
        group["lr"], group["eps"] = float(group["lr"]), float(group["eps"])
        group["initial_lr"] = group["lr"]
    return torch.optim.Adam(groups, fused=True)


def anneal(optimizer: torch.optim.Optimizer, fraction_left: float) -> None:
    """Set every group's learning rate to its initial one times fraction_left."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * fraction_left


def clip_gradients(policy: ActorCritic, max_norm: float | None, loss_scale: float | None = None) -> GradientNorms:
    """Clip actor and critic apart to max_norm (None: not at all); gives the norms before.

    Args:
        policy: Has the gradients.
        max_norm: Of each network.
        loss_scale: What the loss was multiplied with, in 16-bit training. A gradient that overflowed is no fault then:
            the step is skipped and the scale lowered, until below 1 there is none left to blame.

    Raises:
        NonFiniteError: if a norm is not finite; asked before the optimizer's step, and the same on all processes.
    """
    actor, critic = (_clip(torso, max_norm) for _, torso in policy.networks())
    if not bool(torch.isfinite(actor + critic)) and (loss_scale is None or loss_scale < 1.0):
        raise NonFiniteError(f"the gradient of the {'critic' if torch.isfinite(actor) else 'actor'} is not finite")
    return actor, critic


def _clip(module: nn.Module, max_norm: float | None) -> torch.Tensor:
    bound = float("inf") if max_norm is None else max_norm
    return nn.utils.clip_grad_norm_(module.parameters(), bound)
