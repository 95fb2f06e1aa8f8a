"""Adam over parameter groups for actor, critic and log variances, and the clipping of each network's gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from varshare_pl.errors import NonFiniteError
from varshare_pl.policy.actor_critic import ActorCritic

FUSED_DEVICES = ("cpu", "cuda", "mps", "xpu")  # on others torch's fused Adam does not exist

GradientNorms = tuple[float, float]
"""Norms of the actor's and the critic's gradients before clipping."""


class FlatAdam(torch.optim.Adam):
    """Fused Adam over one vector a group.

    Small networks have many small tensors, and calls cost more than arithmetic. So all parameters become views of one
    vector and their gradients views of another: to add gradients up over processes, to clip them and to step is one
    operation a group. ``backward`` writes to the views; everything else about the parameters stays as it was.

    Args:
        groups: Param groups with "params", "name", "lr" and "eps".

    Attributes:
        gradient: (P,) all gradients, in the groups' order.
        gradients: The actor's and the critic's part of it.
        edges: Where each group starts and ends.
        members: The parameters of each group, in the vectors' order.
    """

    def __init__(self, groups: Sequence[dict[str, Any]]) -> None:
        self.members = [[p for p in group["params"] if p.requires_grad] for group in groups]
        self._parameters = [p for group in self.members for p in group]
        ends = list(accumulate(sum(p.numel() for p in group) for group in self.members))
        like = self._parameters[0]
        self._values = torch.empty(ends[-1], dtype=like.dtype, device=like.device)
        self.gradient = torch.zeros_like(self._values)
        flat = []
        for start, end in zip([0, *ends], ends, strict=False):
            flat.append(nn.Parameter(self._values[start:end]))
            flat[-1].grad = self.gradient[start:end]
        self.edges = list(zip([0, *ends], ends, strict=False))
        self._actors = sum(group["name"].startswith("actor") for group in groups)
        self.gradients = self.parts(self.gradient)
        self.tie()
        rest = [{k: v for k, v in group.items() if k != "params"} for group in groups]
        self._fused = like.device.type in FUSED_DEVICES
        super().__init__([{"params": [p], **group} for p, group in zip(flat, rest, strict=True)], fused=self._fused)
        for parameter in flat:
            step = torch.zeros((), dtype=torch.float32, device=like.device)
            moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
            self.state[parameter] = {"step": step, **moments}

    @torch.no_grad()
    def tie(self) -> None:
        """Make parameters and their gradients views of the vectors, where they are not; their values stay."""
        values, gradients = self.split(self._values), self.split(self.gradient)
        for parameter in self._parameters:
            value, gradient = values[id(parameter)], gradients[id(parameter)]
            if parameter.data_ptr() != value.data_ptr():
                value.copy_(parameter)
                parameter.data = value
            if parameter.grad is None or parameter.grad.data_ptr() != gradient.data_ptr():
                parameter.grad = gradient

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set all gradients to 0; they stay views."""
        del set_to_none
        self.gradient.zero_()

    @torch.no_grad()
    def advance(self) -> None:
        """The same as ``step``, which costs several times as much in hooks and checks as in arithmetic here."""
        if not self._fused:
            self.step()
            return
        for group in self.param_groups:
            (parameter,) = group["params"]
            state = self.state[parameter]
            state["step"] += 1
            torch._fused_adam_(
                [parameter],
                [parameter.grad],
                [state["exp_avg"]],
                [state["exp_avg_sq"]],
                [],
                [state["step"]],
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=0.0,
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )

    def split(self, values: Tensor) -> dict[int, Tensor]:
        """A vector (P,) as one tensor for each parameter, by the parameter's id."""
        sizes = [p.numel() for p in self._parameters]
        pieces = zip(self._parameters, torch.split(values, sizes), strict=True)
        return {id(parameter): piece.view(parameter.shape) for parameter, piece in pieces}

    def parts(self, values: Tensor) -> list[Tensor]:
        """A vector (P,) as that of the actor and that of the critic."""
        edge = self.edges[self._actors - 1][1]
        return [values[:edge], values[edge:]]


def build_optimizer(
    policy: ActorCritic, lr_actor: float, lr_critic: float, lr_log_var: float | None, eps: float, eps_log_var: float
) -> FlatAdam:
    """Adam for a policy.

    Log variances get groups of their own with a small epsilon: the weighted KL's gradient in them is about 1e-6, which
    Adam's usual 1e-5 would drown, and σ would stay where it started.

    Args:
        policy: Whose parameters are trained; they become views of the optimizer's vector.
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
    return FlatAdam(groups)


def anneal(optimizer: torch.optim.Optimizer, fraction_left: float) -> None:
    """Set every group's learning rate to its initial one times fraction_left."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * fraction_left


def clip_gradients(optimizer: FlatAdam, max_norm: float | None, loss_scale: float | None = None) -> GradientNorms:
    """Clip actor and critic apart to max_norm (None: not at all); gives the norms before.

    Args:
        optimizer: Has the gradients.
        max_norm: Of each network.
        loss_scale: What the loss was multiplied with, in 16-bit training. A gradient that overflowed is no fault then:
            the step is skipped and the scale lowered, until below 1 there is none left to blame.

    Raises:
        NonFiniteError: if a norm is not finite; asked before the optimizer's step, and the same on all processes.
    """
    gradients = optimizer.gradients
    actor, critic = norms = torch.stack([torch.linalg.vector_norm(g) for g in gradients]).tolist()
    if not math.isfinite(actor + critic) and (loss_scale is None or loss_scale < 1.0):
        raise NonFiniteError(f"the gradient of the {'critic' if math.isfinite(actor) else 'actor'} is not finite")
    if max_norm is not None:
        for gradient, norm in zip(gradients, norms, strict=True):
            if norm > max_norm:
                gradient.mul_(max_norm / (norm + 1e-6))
    return actor, critic
