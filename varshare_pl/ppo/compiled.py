"""Gradient steps as machine code: losses, gradient, clipping and Adam of several minibatches in one call.

The maths is that of the eager path: the objective is traced as it stands. Only Adam and the clipping are written again
as formulas, since the eager path calls torch's fused kernels; a test holds the two together.
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
from varshare_pl.policy.actor_critic import ActorCritic
from varshare_pl.ppo.objective import Losses, Objective
from varshare_pl.ppo.optimizer import FlatAdam, GradientNorms
from varshare_pl.ppo.step import Taken, Work, non_finite_parts, place, policy_kl
from varshare_pl.sharing.base import Noise
from varshare_pl.sharing.torso import tensors_of
from varshare_pl.types import Minibatch

STATE = 4  # values, both moments, count of steps
CONTROLS = 4  # rates, limit of the policy KL, scale of the KL, whether to go on
BATCH = ("obs", "actions", "log_prob", "values", "advantages", "returns", "weight")


class CompiledStep:
    """Takes gradient steps like ``GradientStep``, compiled.

    Args:
        policy: Is trained.
        objective: Gives and weighs the losses.
        optimizer: Of the policy, from ``build_optimizer``.
        max_grad_norm: Of actor and critic each; None: no clipping.
        together: Minibatches in one call; several pay where they are small and the call's own cost shows.
    """

    def __init__(
        self,
        policy: ActorCritic,
        objective: Objective,
        optimizer: FlatAdam,
        max_grad_norm: float | None,
        together: int,
    ) -> None:
        self.optimizer = optimizer
        self._policy = policy
        self._objective = objective
        self._max_grad_norm = max_grad_norm
        self._together = together
        self._losses = _Losses(policy, objective)
        # Inputs too: they may change from rollout to rollout, and the compiler would take them for constants.
        kept = policy.state_dict().keys()
        self._buffers = [f"policy.{name}" for name, _ in policy.named_buffers() if name in kept]
        self._functions: dict[Any, Compiled] = {}
        self._members = [
            (group["name"].removesuffix("_log_var"), parameter, index)
            for index, (group, members) in enumerate(zip(optimizer.param_groups, optimizer.members, strict=True))
            for parameter in members
        ]

    def take(self, work: Iterable[Work], rollout: int, target_kl: float | None, kl_scale: float | None = None) -> Taken:
        """See ``GradientStep.take``."""
        self.optimizer.tie()
        state, work = self._state(), iter(work)
        like = state[0]
        rates = torch.tensor([group["lr"] for group in self.optimizer.param_groups]).to(like)
        limit = torch.tensor(math.inf if target_kl is None else target_kl).to(like)
        kl_scale = self._objective.kl_scale(self._policy) if kl_scale is None else kl_scale
        weight = like.new_tensor(kl_scale)  # an input: it may change from rollout to rollout
        going_on = torch.ones((), dtype=torch.bool, device=like.device)
        buffers = [self._losses.get_buffer(name) for name in self._buffers]
        kept: list[list[Tensor]] = []
        weights: list[Tensor] = []
        norms: list[GradientNorms] = []
        while several := list(islice(work, self._together)):
            inputs, layout = _flatten(several)
            arguments = [*state, rates, limit, weight, going_on, *inputs, *buffers]
            outputs = self._function(layout, arguments)(*arguments)
            state, going_on = outputs[:STATE], outputs[STATE]
            kept.append(outputs[STATE + 2 :])
            weights += [item.batch.weight for item in several]
            norms += [(actor, critic) for actor, critic in outputs[STATE + 1].tolist()]
            if not bool(going_on):
                break
        losses = Losses(*(torch.cat(column) for column in zip(*kept, strict=True)))
        taken = Taken(losses, torch.stack(weights), norms, stopped_early=False)
        if not bool(going_on):
            taken = self._stopped(taken, rollout, target_kl)
        self._store(state)
        return taken

    def _stopped(self, taken: Taken, rollout: int, target_kl: float | None) -> Taken:
        """The steps up to the one that was not taken.

        Raises:
            NonFiniteError: if that was because of its gradient.
        """
        kls = policy_kl(taken.losses.log_ratio, taken.weights).tolist()
        for number, (kl, norms) in enumerate(zip(kls, taken.norms, strict=True)):
            if target_kl is not None and kl > target_kl:
                losses = Losses(*(part[: number + 1] for part in taken.losses))
                return Taken(losses, taken.weights[: number + 1], taken.norms[:number], stopped_early=True)
            if not math.isfinite(sum(norms)):
                network = "critic" if math.isfinite(norms[0]) else "actor"
                losses = Losses(*(part[number] for part in taken.losses))
                parts = non_finite_parts(self._objective, self._policy, losses)
                raise NonFiniteError(f"the gradient of the {network} is not finite {place(rollout, number)}; {parts}")
        raise AssertionError("a step was not taken for no reason")

    def _function(self, layout: Any, arguments: Sequence[Tensor]) -> Compiled:
        key = (layout, arguments[STATE + CONTROLS + 1].shape)
        if key not in self._functions:

            def steps(*arguments: Tensor) -> list[Tensor]:
                state, (rates, limit, kl_scale, going_on), inputs = (
                    list(arguments[:STATE]),
                    arguments[STATE : STATE + CONTROLS],
                    arguments[STATE + CONTROLS :],
                )
                edge = len(inputs) - len(self._buffers)
                buffers = dict(zip(self._buffers, inputs[edge:], strict=True))
                results = []
                for work in _unflatten(inputs[:edge], layout):
                    state, going_on, result = self._one(state, rates, limit, kl_scale, going_on, buffers, work)
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
        work: Work,
    ) -> tuple[list[Tensor], Tensor, list[Tensor]]:
        parameters = self.optimizer.split(state[0].detach())
        names = {id(p): f"policy.{name}" for name, p in self._policy.named_parameters()}
        with torch.enable_grad():
            by_name = {names[key]: value.requires_grad_() for key, value in parameters.items()}
            losses: Losses = torch.func.functional_call(self._losses, by_name | buffers, (work,))
            total = self._objective.total(self._policy, losses, kl_scale)
            gradients = torch.autograd.grad(total, list(parameters.values()), materialize_grads=True)
        with torch.no_grad():
            by_parameter = dict(zip(parameters, gradients, strict=True))
            of_networks: dict[str, list[Tensor]] = {"actor": [], "critic": []}
            for network, parameter, _ in self._members:
                of_networks[network].append(by_parameter[id(parameter)].square().sum())
            norms = torch.stack([torch.stack(squares).sum().sqrt() for squares in of_networks.values()])
            going_on = going_on & (policy_kl(losses.log_ratio, work.batch.weight) <= limit) & norms.isfinite().all()
            state = self._adam(state, by_parameter, norms, rates, going_on)
        return state, going_on, [norms, *(part.detach() for part in losses)]

    def _adam(
        self, state: list[Tensor], gradients: dict[int, Tensor], norms: Tensor, rates: Tensor, going_on: Tensor
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
        old = [self.optimizer.split(vector) for vector in vectors]
        after: list[list[Tensor]] = [[], [], []]
        for network, parameter, group in self._members:
            value, mean, square = before = [pieces[id(parameter)] for pieces in old]
            gradient = gradients[id(parameter)] * (of_actor if network == "actor" else of_critic)
            mean = mean + (gradient - mean) * (1.0 - beta1)
            square = square * beta2 + gradient * gradient * (1.0 - beta2)
            value = value - sizes[group] * mean / (square.sqrt() * scale + groups[group]["eps"])
            for column, new, kept in zip(after, (value, mean, square), before, strict=True):
                column.append(torch.where(going_on, new, kept).reshape(-1))
        return [*(torch.cat(column) for column in after), torch.where(going_on, steps, count)]

    def _state(self) -> list[Tensor]:
        states = [self.optimizer.state[group["params"][0]] for group in self.optimizer.param_groups]
        moments = [torch.cat([s[name] for s in states]) for name in ("exp_avg", "exp_avg_sq")]
        values = torch.cat([group["params"][0].detach() for group in self.optimizer.param_groups])
        return [values, *moments, states[0]["step"].to(values)]

    @torch.no_grad()
    def _store(self, state: Sequence[Tensor]) -> None:
        values, mean, square, count = state
        for group, (start, end) in zip(self.optimizer.param_groups, self.optimizer.edges, strict=True):
            (parameter,) = group["params"]
            kept = self.optimizer.state[parameter]
            parameter.copy_(values[start:end])
            kept["exp_avg"].copy_(mean[start:end])
            kept["exp_avg_sq"].copy_(square[start:end])
            kept["step"].copy_(count)


def _computed_once(numbers: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Numbers () that stand in memory; the compiler would compute them again for every few elements they meet."""
    return torch.stack(list(numbers)).unbind()


class _Losses(nn.Module):
    """The objective as a module whose parameters can be exchanged."""

    def __init__(self, policy: ActorCritic, objective: Objective) -> None:
        super().__init__()
        self.policy = policy
        self.objective = objective

    def forward(self, work: Work) -> Losses:
        return self.objective(self.policy, *work)


def _flatten(several: Sequence[Work]) -> tuple[list[Tensor], Any]:
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


def _unflatten(tensors: Sequence[Tensor], layout: Any) -> list[Work]:
    group_task, *rest = tensors
    left = iter(rest)
    several = []
    for kinds in layout:
        batch = Minibatch(group_task, **{name: next(left) for name in BATCH})
        several.append(Work(batch, *(None if kind is None else [_noise(k, left) for k in kind] for kind in kinds)))
    return several


def _noise(kind: type[Any], tensors: Iterator[Tensor]) -> Noise:
    if kind is type(None):
        return None
    if kind is Tensor:
        return next(tensors)
    noise: Noise = kind(*(next(tensors) for _ in kind._fields))
    return noise
