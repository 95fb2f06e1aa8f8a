"""Adam over parameter groups for actor, critic and their log variances, and the clipping of each network's gradient."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from varshare_pl.errors import NonFiniteError
from varshare_pl.learning.options import OptimizerOptions
from varshare_pl.networks.actor_critic import ActorCritic
from varshare_pl.parallel import all_mean, world_size

FUSED_DEVICES = ("cpu", "cuda", "mps", "xpu")  # on others torch's fused Adam does not exist

PLAIN_ADAM: Any = {"weight_decay": 0.0, "amsgrad": False, "maximize": False}

GradientNorms = tuple[float, float]
"""Norms of the actor's and the critic's gradients before clipping."""


class PolicyAdam(torch.optim.Adam):
    """Torch's fused Adam without the checks around it, which cost a small network several times the arithmetic.

    Args:
        groups: Param groups with "params", "name", "lr" and "eps"; names begin with "actor" or "critic".

    Attributes:
        networks: The parameters of actor and critic, log variances and log standard deviations last.
        parameters: All of them.
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        self.networks: dict[str, list[Tensor]] = {"actor": [], "critic": []}
        for group in groups:
            self.networks[group["name"].partition("_")[0]] += group["params"]
        self.parameters = self.networks["actor"] + self.networks["critic"]
        super().__init__(groups, fused=self.parameters[0].device.type in FUSED_DEVICES)
        for parameter in self.parameters:
            moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
            count = torch.zeros((), dtype=torch.float32, device=parameter.device)
            self.state[parameter] = {"step": count, **moments}
        self._look_up()

    def _look_up(self) -> None:
        """The lists of tensors that a step takes: of each group, first and second moments and counts of steps."""

        def column(group: dict[str, Any], name: str) -> list[Tensor]:
            return [self.state[p][name] for p in group["params"]]

        self._lists = [
            (group, column(group, "exp_avg"), column(group, "exp_avg_sq"), column(group, "step"))
            for group in self.param_groups
        ]

    def load_state_dict(self, state_dict: Any) -> None:
        """See torch."""
        super().load_state_dict(state_dict)
        self._look_up()

    def differentiate(self, loss: Tensor) -> None:
        """Set the gradients to those of a loss, to 0 where it does not depend on a parameter."""
        gradients = torch.autograd.grad(loss, self.parameters, materialize_grads=True)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient.contiguous()  # the fused kernel takes its layout for the parameter's

    def gradients(self, network: str) -> list[Tensor]:
        """Those of the actor's or of the critic's parameters."""
        return [parameter.grad for parameter in self.networks[network] if parameter.grad is not None]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step, the same as torch's."""
        # found_inf is a loss scaler's word that the step may have to be skipped.
        if not self.defaults["fused"] or hasattr(self, "found_inf"):
            return super().step(closure)
        for group, means, squares, counts in self._lists:
            gradients, (beta1, beta2) = [p.grad for p in group["params"]], group["betas"]
            torch._foreach_add_(counts, 1)
            options = {"lr": group["lr"], "eps": group["eps"], "beta1": beta1, "beta2": beta2}
            torch._fused_adam_(group["params"], gradients, means, squares, [], counts, **options, **PLAIN_ADAM)
        return None


def build_optimizer(policy: ActorCritic, options: OptimizerOptions) -> PolicyAdam:
    """Adam for a policy.

    Log variances get groups of their own with a small epsilon: the weighted KL's gradient in them is about 1e-6, which
    Adam's usual 1e-5 would drown, and σ would stay where it started.
    """
    groups: list[dict[str, Any]] = []
    for (name, network), lr in zip(policy.networks(), (options.lr_actor, options.lr_critic), strict=True):
        log_vars = network.log_var_parameters()
        log_stds = list(policy.distribution.parameters()) if name == "actor" else []
        special = {id(p) for p in (*log_vars, *log_stds)}
        others = [p for p in policy.parameters_of(name) if id(p) not in special]
        groups.append({"params": others, "lr": lr, "eps": options.adam_eps, "name": name})
        if log_vars:
            lr_log_var = lr if options.lr_log_var is None else options.lr_log_var
            eps = options.adam_eps_log_var
            groups.append({"params": log_vars, "lr": lr_log_var, "eps": eps, "name": f"{name}_log_var"})
        if log_stds:
            lr_log_std = lr if options.lr_log_std is None else options.lr_log_std
            groups.append({"params": log_stds, "lr": lr_log_std, "eps": options.adam_eps, "name": f"{name}_log_std"})
    for group in groups:
        group["params"] = [p for p in group["params"] if p.requires_grad]
        # Plain numbers: these go into checkpoints, which hold no class but torch's own.
        group["lr"], group["eps"] = float(group["lr"]), float(group["eps"])
        group["initial_lr"] = group["lr"]
    return PolicyAdam(groups)


def anneal(optimizer: torch.optim.Optimizer, fraction_left: float) -> None:
    """Set every group's learning rate to its initial one times fraction_left."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * fraction_left


def average_gradients(optimizer: PolicyAdam) -> None:
    """Replace the gradients by their means over processes, in one exchange."""
    if world_size() == 1:
        return
    gradients = optimizer.gradients("actor") + optimizer.gradients("critic")
    mean = all_mean(torch.cat([gradient.flatten() for gradient in gradients]))
    parts = torch.split(mean, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def clip_gradients(optimizer: PolicyAdam, max_norm: float | None, loss_scale: float | None = None) -> GradientNorms:
    """Clip actor and critic apart to max_norm (None: not at all); gives the norms before.

    Args:
        optimizer: Of the parameters.
        max_norm: Of each network.
        loss_scale: What the loss was multiplied with, in 16-bit training. A gradient that overflowed is no fault then:
            the step is skipped and the scale lowered, until below 1 there is none left to blame.

    Raises:
        NonFiniteError: if a norm is not finite; asked before the optimizer's step, and the same on all processes.
    """
    gradients = optimizer.gradients("actor"), optimizer.gradients("critic")
    actor, critic = torch.stack([torch.stack(torch._foreach_norm(network)).norm() for network in gradients]).tolist()
    if not math.isfinite(actor + critic) and (loss_scale is None or loss_scale < 1.0):
        raise NonFiniteError(f"the gradient of the {'critic' if math.isfinite(actor) else 'actor'} is not finite")
    if max_norm is not None:
        for network, norm in zip(gradients, (actor, critic), strict=True):
            if norm > max_norm:
                torch._foreach_mul_(network, max_norm / (norm + 1e-6))
    return actor, critic
