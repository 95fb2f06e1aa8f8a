"""Gradient steps as machine code: losses, gradient, clipping and Adam of a minibatch in one call.

The losses are traced as they stand. Adam and the clipping are formulas here, where the eager path calls torch's own
kernels; a test holds the two together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from varshare_pl.compilation.functions import Compiled, compile_function
from varshare_pl.errors import NonFiniteError
from varshare_pl.learning.optimizer import GradientNorms, PolicyAdam
from varshare_pl.networks.actor_critic import ActorCritic
from varshare_pl.networks.layer import Noise
from varshare_pl.networks.native import make_native
from varshare_pl.networks.network import tensors_of
from varshare_pl.ppo.losses import Losses, StepInput, compute_losses, policy_kl, total_loss
from varshare_pl.ppo.options import PPOOptions
from varshare_pl.ppo.update import StepsTaken, non_finite_parts, place
from varshare_pl.types import Minibatch

STATE = 4  # tensors: values, both moments of Adam, and the count of steps
BATCH = ("group_task", "obs", "actions", "log_prob", "values", "advantages", "returns", "weight")


class CompiledSteps:
    """Takes gradient steps like ``PlainSteps``, compiled.

    Args:
        policy: The actor-critic, whose parameters are changed.
        optimizer: Of the policy, from ``build_optimizer``.
        options: Coefficients and limits.
        max_grad_norm: Of actor and critic each; None: no clipping.
    """

    def __init__(
        self, policy: ActorCritic, optimizer: PolicyAdam, options: PPOOptions, max_grad_norm: float | None
    ) -> None:
        self.optimizer = optimizer
        self._policy = policy
        self._options = options
        self._max_grad_norm = max_grad_norm
        self._losses = _LossesAndKL(policy, options)
        # Inputs too: they may change from rollout to rollout, and the compiler would take them for constants.
        kept = policy.state_dict().keys()
        self._buffers = [f"policy.{name}" for name, _ in policy.named_buffers() if name in kept]
        self._functions: dict[Any, Compiled] = {}
        names = {id(p): f"policy.{name}" for name, p in policy.named_parameters()}
        self._members = [
            (names[id(parameter)], group["name"].partition("_")[0], parameter, index)
            for index, group in enumerate(optimizer.param_groups)
            for parameter in group["params"]
        ]
        make_native(policy)

    def run(self, inputs: Iterable[StepInput], kl_scale: float, rollout: int) -> StepsTaken:
        """See ``GradientSteps``."""
        state, target_kl = self._state(), self._options.target_kl
        rates = torch.tensor([group["lr"] for group in self.optimizer.param_groups]).to(state[0])
        scale = state[0].new_tensor(kl_scale)  # an input: it may change from rollout to rollout
        always = [rates, scale, *(self._losses.get_buffer(name) for name in self._buffers)]
        kept: list[tuple[Tensor, ...]] = []
        norms: list[GradientNorms] = []
        for step in inputs:
            tensors, kinds = _flatten(step)
            arguments = [*state, *always, *tensors]
            outputs = self._function(kinds, len(always), arguments)(*arguments)
            after, (numbers, *losses, kl) = outputs[:STATE], outputs[STATE:]
            kept.append((step.batch.weight, *losses, kl))
            actor, critic, of_policy = numbers.tolist()
            if target_kl is not None and of_policy > target_kl:
                break
            if not math.isfinite(actor + critic):
                network = "critic" if math.isfinite(actor) else "actor"
                cause = non_finite_parts(Losses(*losses), kl if self._policy.num_variational else None)
                where = place(rollout, len(norms))
                raise NonFiniteError(f"the gradient of the {network} is not finite {where}; {cause}")
            norms.append((actor, critic))
            state = after
        self._store(state)
        weights, sums, log_ratios, kls = (torch.stack(column) for column in zip(*kept, strict=True))
        of_kl = kls if self._policy.num_variational else None
        return StepsTaken(Losses(sums, log_ratios), of_kl, weights, norms, len(norms) < len(kept))

    def _function(self, kinds: Any, always: int, arguments: Sequence[Tensor]) -> Compiled:
        key = (kinds, arguments[-1].shape)
        if key not in self._functions:

            def step(*arguments: Tensor) -> list[Tensor]:
                state, (rates, kl_scale, *buffers) = list(arguments[:STATE]), arguments[STATE : STATE + always]
                inputs = _unflatten(arguments[STATE + always :], kinds)
                return self._step(state, rates, kl_scale, dict(zip(self._buffers, buffers, strict=True)), inputs)

            self._functions[key] = compile_function(step, arguments, "update")
        return self._functions[key]

    def _step(
        self, state: list[Tensor], rates: Tensor, kl_scale: Tensor, buffers: dict[str, Tensor], inputs: StepInput
    ) -> list[Tensor]:
        """The state after a step, norms and the policy's KL as (3,), and the parts of the loss."""
        values = self._split(state[0].detach())
        with torch.enable_grad():
            by_name = {name: value.requires_grad_() for (name, *_), value in zip(self._members, values, strict=True)}
            losses, kl = torch.func.functional_call(self._losses, by_name | buffers, (inputs,))
            of_kl = kl if self._policy.num_variational else None
            total = total_loss(losses, of_kl, kl_scale, self._options)
            gradients = torch.autograd.grad(total, values, materialize_grads=True)
        with torch.no_grad():
            of_networks: dict[str, list[Tensor]] = {"actor": [], "critic": []}
            for (_, network, _, _), gradient in zip(self._members, gradients, strict=True):
                of_networks[network].append(gradient.square().sum())
            norms = [torch.stack(squares).sum().sqrt() for squares in of_networks.values()]
            state = self._adam(state, gradients, torch.stack(norms), rates)
            numbers = torch.stack([*norms, policy_kl(losses.log_ratio, inputs.batch.weight)])
        return [*state, numbers, *(part.detach() for part in losses), kl.detach()]

    def _adam(self, state: list[Tensor], gradients: Sequence[Tensor], norms: Tensor, rates: Tensor) -> list[Tensor]:
        """Kingma and Ba 2015 (arXiv 1412.6980), algorithm 1, as torch computes it, on clipped gradients.

        Parameter by parameter: a vector of all gradients would be written and read once more.
        """
        *vectors, count = state
        groups = self.optimizer.param_groups
        beta1, beta2 = groups[0]["betas"]
        steps = count + 1.0
        limits = torch.ones_like(norms)
        if self._max_grad_norm is not None:
            limits = (self._max_grad_norm / (norms + 1e-6)).clamp(max=1.0)
        numbers = [*limits, *(rates / (1.0 - beta1**steps)), 1.0 / (1.0 - beta2**steps).sqrt()]
        of_actor, of_critic, *sizes, scale = _computed_once(numbers)
        after: list[list[Tensor]] = [[], [], []]
        old = zip(*(self._split(vector) for vector in vectors), strict=True)
        for (_, network, _, group), gradient, before in zip(self._members, gradients, old, strict=True):
            value, mean, square = before
            gradient = gradient * (of_actor if network == "actor" else of_critic)
            mean = mean + (gradient - mean) * (1.0 - beta1)
            square = square * beta2 + gradient * gradient * (1.0 - beta2)
            value = value - sizes[group] * mean / (square.sqrt() * scale + groups[group]["eps"])
            for column, new in zip(after, (value, mean, square), strict=True):
                column.append(new.reshape(-1))
        return [*(torch.cat(column) for column in after), steps]

    def _split(self, vector: Tensor) -> list[Tensor]:
        """A vector with something for each weight as one tensor for each parameter."""
        parameters = [parameter for _, _, parameter, _ in self._members]
        pieces = torch.split(vector, [p.numel() for p in parameters])
        return [piece.view(p.shape) for p, piece in zip(parameters, pieces, strict=True)]

    def _state(self) -> list[Tensor]:
        """Values, both moments, and the count of steps; few tensors, since each costs a call something."""
        parameters = [parameter for _, _, parameter, _ in self._members]
        states = [self.optimizer.state[p] for p in parameters]
        columns = [[p.detach() for p in parameters], *([s[name] for s in states] for name in ("exp_avg", "exp_avg_sq"))]
        vectors = [torch.cat([part.flatten() for part in column]) for column in columns]
        return [*vectors, states[0]["step"].to(vectors[0])]

    @torch.no_grad()
    def _store(self, state: Sequence[Tensor]) -> None:
        *vectors, count = state
        for (_, _, parameter, _), value, mean, square in zip(self._members, *map(self._split, vectors), strict=True):
            kept = self.optimizer.state[parameter]
            parameter.copy_(value)
            kept["exp_avg"].copy_(mean)
            kept["exp_avg_sq"].copy_(square)
            kept["step"].copy_(count)


def _computed_once(numbers: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Numbers () that stand in memory; the compiler would compute them again for every few elements they meet."""
    return torch.stack(list(numbers)).unbind()


class _LossesAndKL(nn.Module):
    """The losses as a module whose parameters can be exchanged."""

    def __init__(self, policy: ActorCritic, options: PPOOptions) -> None:
        super().__init__()
        self.policy = policy
        self.options = options

    def forward(self, step: StepInput) -> tuple[Losses, Tensor]:
        return compute_losses(self.policy, step, self.options), self.policy.kl()


def _flatten(step: StepInput) -> tuple[list[Tensor], Any]:
    """All tensors of a step, and what it takes to put them together again."""
    tensors = [tensor.contiguous() for tensor in tensors_of(list(step[1:]))]  # stored noise is cut from wider rows
    kinds = tuple(None if noise is None else tuple(type(eps) for eps in noise) for noise in step[1:])
    return [*tensors, *(getattr(step.batch, name) for name in BATCH)], kinds


def _unflatten(tensors: Sequence[Tensor], kinds: Any) -> StepInput:
    left = iter(tensors)
    noises = [None if kind is None else [_noise(k, left) for k in kind] for kind in kinds]
    return StepInput(Minibatch(**{name: next(left) for name in BATCH}), *noises)


def _noise(kind: type[Any], tensors: Iterator[Tensor]) -> Noise:
    if kind is type(None):
        return None
    if kind is Tensor:
        return next(tensors)
    noise: Noise = kind(*(next(tensors) for _ in kind._fields))
    return noise
