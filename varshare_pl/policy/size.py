"""How large the networks of a policy are: parameters stored, parameters that one task uses, and work per row.

All of it is about evaluation: no noise, so the posterior mean. A parameter that such a forward never reads is stored,
but not active. Of the others the active ones are counted by this rule: if the first axis has the size M, and the
forward of one task reads that task's part alone, 1/M of it; else all. A layer or torso for which this is not true has a
method ``active_parameters() -> int``, which then answers for all parameters below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from varshare_pl.policy.actor_critic import ActorCritic
from varshare_pl.sharing.base import Noise
from varshare_pl.sharing.torso import Torso

ROWS = 64


class Size(NamedTuple):
    """Of a network."""

    stored: int  # parameters
    active: int  # parameters that the evaluation of one task uses
    flops: int  # 2 × multiply-adds of the products that one row takes, once the weights are prepared


@dataclass(frozen=True)
class ParameterRow:
    """One parameter."""

    network: str
    name: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Numbers in it."""
        return torch.Size(self.shape).numel()


def parameter_rows(policy: ActorCritic) -> list[ParameterRow]:
    """All parameters in their order."""
    rows = []
    for full_name, parameter in policy.named_parameters():
        network, _, name = full_name.partition(".")
        rows.append(ParameterRow(network, name.replace("network.", "").removeprefix("stack."), tuple(parameter.shape)))
    return rows


def network_sizes(policy: ActorCritic, obs_size: int) -> dict[str, Size]:
    """The size of each network by its name.

    Args:
        policy: The actor-critic.
        obs_size: Of an observation row.
    """
    return {
        name: Size(
            sum(p.numel() for p in torso.parameters()), active_parameters(torso, obs_size), row_flops(torso, obs_size)
        )
        for name, torso in policy.networks()
    }


def total_size(sizes: Iterable[Size]) -> Size:
    """The sum."""
    return Size(*(sum(column) for column in zip(*sizes, strict=True)))


def active_parameters(torso: Torso, obs_size: int) -> int:
    """Parameters that the evaluation of one task uses, by the rule at the top of this file."""
    return count_active(torso, read_parts(torso, obs_size))


def count_active(torso: Torso, parts: Mapping[str, int]) -> int:
    """The same for a torso whose parts are known: those of ``read_parts``, of this torso or of one of other widths."""
    told = sum(module.active_parameters() for module in _telling(torso))  # type: ignore[operator]
    return int(told) + sum(p.numel() // parts[n] for n, p in torso.named_parameters() if parts.get(n))


def read_parts(torso: Torso, obs_size: int) -> dict[str, int]:
    """Into how many parts a parameter is divided of which one task uses one: M or 1; 0: it uses none.

    By name, without the parameters of modules that count themselves.
    """
    told = {id(parameter) for module in _telling(torso) for parameter in module.parameters()}
    left = {name: p for name, p in torso.named_parameters() if id(p) not in told}
    gradients = _gradients(torso, list(left.values()), obs_size)
    return {name: _parts(p, g, torso.num_tasks) for (name, p), g in zip(left.items(), gradients, strict=True)}


def shared_parameters(torso: Torso, obs_size: int) -> list[nn.Parameter]:
    """The parameters that several tasks' losses depend on: those that the rule does not divide among tasks.

    Weight noise counts here, for losses have it: what only noise reads may be shared too.
    """
    parameters = list(torso.parameters())
    noise = torso.draw_weight_noise(torch.Generator().manual_seed(0))
    gradients = _gradients(torso, parameters, obs_size, noise)
    return [p for p, g in zip(parameters, gradients, strict=True) if _parts(p, g, torso.num_tasks) == 1]


def _telling(torso: Torso) -> list[nn.Module]:
    """The modules with an ``active_parameters`` of their own, the outer one where they are nested."""
    found, told = [], set[int]()
    for module in torso.modules():
        new = {id(parameter) for parameter in module.parameters()} - told
        if new and hasattr(module, "active_parameters"):
            found.append(module)
            told |= new
    return found


@torch.no_grad()
def row_flops(torso: Torso, obs_size: int) -> int:
    """Twice the multiply-adds of all products in ``compute`` for one row."""
    from torch.utils.flop_counter import FlopCounterMode  # only here is it needed

    first = next(torso.parameters())
    prepared = torso.prepare(torch.zeros(1, dtype=torch.int64, device=first.device))
    with FlopCounterMode(display=False) as counter:
        torso.compute(prepared, first.new_zeros(1, 1, obs_size))
    return int(counter.get_total_flops())


def _gradients(
    torso: Torso, parameters: list[nn.Parameter], obs_size: int, noise: Sequence[Noise] | None = None
) -> list[Tensor | None]:
    """Of the outputs for some rows of task 0; None for a parameter that they do not depend on."""
    if not parameters:
        return []
    like = parameters[0]
    generator = torch.Generator().manual_seed(0)
    with torch.enable_grad():
        rows = torch.randn(1, ROWS, obs_size, generator=generator).to(like)
        task = torch.zeros(1, dtype=torch.int64, device=like.device)
        output = torso.compute(torso.prepare(task, noise), rows)
        mixed = (output * torch.randn(output.shape, generator=generator).to(output)).sum()
        return list(torch.autograd.grad(mixed, parameters, allow_unused=True))


def _parts(parameter: Tensor, gradient: Tensor | None, num_tasks: int) -> int:
    if gradient is None:
        return 0
    own = parameter.dim() > 0 and len(parameter) == num_tasks and not bool(gradient[1:].any())
    return num_tasks if own else 1
