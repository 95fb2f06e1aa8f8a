"""Gradient steps as machine code: losses, gradient, clipping and Adam of several minibatches in one call.

The losses are traced as they stand. Adam and the clipping are formulas here, where the eager path calls torch's own
kernels; a test holds the two together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from varshare_pl.compilation import Compiled, compile_function
from varshare_pl.errors import NonFiniteError
from varshare_pl.learning.optimizer import GradientNorms, PolicyAdam
from varshare_pl.networks.actor_critic import ActorCritic
from varshare_pl.networks.layer import Noise
from varshare_pl.networks.network import tensors_of
from varshare_pl.ppo.losses import Losses, StepInput, compute_losses, policy_kl, total_loss
from varshare_pl.ppo.options import PPOOptions
from varshare_pl.ppo.update import StepsTaken, non_finite_parts, place
from varshare_pl.types import Minibatch

SMALL_MINIBATCH = 256  # rows, up to which steps are several in a call: the call's own cost shows
CONTROLS = ("rates", "limit", "kl_scale", "going_on")
BATCH = ("obs", "actions", "log_prob", "values", "advantages", "returns", "weight")


class CompiledSteps:
    """Takes gradient steps like ``PlainSteps``, compiled.

    Args:
        policy: The actor-critic, whose parameters are changed.
        optimizer: Of the policy, from ``build_optimizer``.
        options: Coefficients and limits.
        max_grad_norm: Of actor and critic each; None: no clipping.
        num_minibatches: Of an epoch.
        rows: Of a rollout.
    """

    def __init__(
        self,
        policy: ActorCritic,
        optimizer: PolicyAdam,
        options: PPOOptions,
        max_grad_norm: float | None,
        num_minibatches: int,
        rows: int,
    ) -> None:
        self.optimizer = optimizer
        self._policy = policy
        self._options = options
        self._max_grad_norm = max_grad_norm
        small = rows // num_minibatches <= SMALL_MINIBATCH
        self._together = next(n for n in (4, 2, 1) if num_minibatches % n == 0) if small else 1
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

    def run(self, inputs: Iterable[StepInput], kl_scale: float, rollout: int) -> StepsTaken:
        """See ``GradientSteps``."""
        state, steps, target_kl = self._state(), iter(inputs), self._options.target_kl
        like = state[0]
        rates = torch.tensor([group["lr"] for group in self.optimizer.param_groups]).to(like)
        limit = torch.tensor(math.inf if target_kl is None else target_kl).to(like)
        scale = like.new_tensor(kl_scale)  # an input: it may change from rollout to rollout
        going_on = torch.ones((), dtype=torch.bool, device=like.device)
        buffers = [self._losses.get_buffer(name) for name in self._buffers]
        kept: list[list[Tensor]] = []
        weights: list[Tensor] = []
        norms: list[GradientNorms] = []
        while several := list(islice(steps, self._together)):
            tensors, layout = _flatten(several)
            arguments = [*state, rates, limit, scale, going_on, *tensors, *buffers]
            outputs = self._function(layout, len(state), arguments)(*arguments)
            state, (going_on, of_networks, *parts) = outputs[: len(state)], outputs[len(state) :]
            kept.append(parts)
            weights += [step.batch.weight for step in several]
            norms += [(actor, critic) for actor, critic in of_networks.tolist()]
            if not bool(going_on):
                break
        *losses, kl = (torch.cat(column) for column in zip(*kept, strict=True))
        of_kl = kl if self._policy.num_variational else None
        taken = StepsTaken(Losses(*losses), of_kl, torch.stack(weights), norms, stopped_early=False)
        if not bool(going_on):
            taken = self._stopped(taken, rollout)
        self._store(state)
        return taken

    def _stopped(self, taken: StepsTaken, rollout: int) -> StepsTaken:
        """The steps up to the one that was not taken.

        Raises:
            NonFiniteError: if that was because of its gradient.
        """
        target_kl = self._options.target_kl
        kls = policy_kl(taken.losses.log_ratio, taken.weights).tolist()
        for number, (kl, norms) in enumerate(zip(kls, taken.norms, strict=True)):
            if target_kl is not None and kl > target_kl:
                losses = Losses(*(part[: number + 1] for part in taken.losses))
                of_kl = None if taken.kl is None else taken.kl[: number + 1]
                return StepsTaken(losses, of_kl, taken.weights[: number + 1], taken.norms[:number], stopped_early=True)
            if not math.isfinite(sum(norms)):
                network = "critic" if math.isfinite(norms[0]) else "actor"
                losses = Losses(*(part[number] for part in taken.losses))
                cause = non_finite_parts(losses, None if taken.kl is None else taken.kl[number])
                raise NonFiniteError(f"the gradient of the {network} is not finite {place(rollout, number)}; {cause}")
        raise AssertionError("a step was not taken for no reason")

    def _function(self, layout: Any, state_size: int, arguments: Sequence[Tensor]) -> Compiled:
        first = state_size + len(CONTROLS)
        key = (layout, arguments[first + 1].shape)
        if key not in self._functions:

            def steps(*arguments: Tensor) -> list[Tensor]:
                state = list(arguments[:state_size])
                rates, limit, kl_scale, going_on = arguments[state_size:first]
                edge = len(arguments) - len(self._buffers)
                buffers = dict(zip(self._buffers, arguments[edge:], strict=True))
                results = []
                for step in _unflatten(arguments[first:edge], layout):
                    state, going_on, result = self._one(state, rates, limit, kl_scale, going_on, buffers, step)
                    results.append(result)
                return [*state, going_on, *(torch.stack(column) for column in zip(*results, strict=True))]

            self._functions[key] = compile_function(steps, arguments, "update")
        return self._functions[key]

    def _one(
        self,
        state: list[Tensor],
        rates: Tensor,
        limit: Tensor,
        kl_scale: Tensor,
        going_on: Tensor,
        buffers: dict[str, Tensor],
        step: StepInput,
    ) -> tuple[list[Tensor], Tensor, list[Tensor]]:
        values = self._split(state[0].detach())
        with torch.enable_grad():
            by_name = {name: value.requires_grad_() for (name, *_), value in zip(self._members, values, strict=True)}
            losses, kl = torch.func.functional_call(self._losses, by_name | buffers, (step,))
            of_kl = kl if self._policy.num_variational else None
            total = total_loss(losses, of_kl, kl_scale, self._options)
            gradients = torch.autograd.grad(total, values, materialize_grads=True)
        with torch.no_grad():
            of_networks: dict[str, list[Tensor]] = {"actor": [], "critic": []}
            for (_, network, _, _), gradient in zip(self._members, gradients, strict=True):
                of_networks[network].append(gradient.square().sum())
            norms = torch.stack([torch.stack(squares).sum().sqrt() for squares in of_networks.values()])
            going_on = going_on & (policy_kl(losses.log_ratio, step.batch.weight) <= limit) & norms.isfinite().all()
            state = self._adam(state, gradients, norms, rates, going_on)
        return state, going_on, [norms, *(part.detach() for part in losses), kl.detach()]

    def _adam(
        self, state: list[Tensor], gradients: Sequence[Tensor], norms: Tensor, rates: Tensor, going_on: Tensor
    ) -> list[Tensor]:
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
            for column, new, kept in zip(after, (value, mean, square), before, strict=True):
                column.append(torch.where(going_on, new, kept).reshape(-1))
        return [*(torch.cat(column) for column in after), torch.where(going_on, steps, count)]

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


def _flatten(several: Sequence[StepInput]) -> tuple[list[Tensor], Any]:
    """All tensors of some steps, and what it takes to put them together again."""
    tensors = [several[0].batch.group_task]
    layout = []
    for batch, *noises in several:
        tensors += [getattr(batch, name).contiguous() for name in BATCH]
        kinds = []
        for noise in noises:
            kinds.append(None if noise is None else tuple(type(eps) for eps in noise))
            tensors += [tensor.contiguous() for tensor in tensors_of(noise)]
        layout.append(tuple(kinds))
    return tensors, tuple(layout)


def _unflatten(tensors: Sequence[Tensor], layout: Any) -> list[StepInput]:
    group_task, *rest = tensors
    left = iter(rest)
    several = []
    for kinds in layout:
        batch = Minibatch(group_task, **{name: next(left) for name in BATCH})
        several.append(StepInput(batch, *(None if kind is None else [_noise(k, left) for k in kind] for kind in kinds)))
    return several


def _noise(kind: type[Any], tensors: Iterator[Tensor]) -> Noise:
    if kind is type(None):
        return None
    if kind is Tensor:
        return next(tensors)
    noise: Noise = kind(*(next(tensors) for _ in kind._fields))
    return noise
