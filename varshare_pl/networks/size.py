"""How large the networks of a policy are: parameters stored, parameters that one task uses, and work per row.

All of it is about evaluation: no noise, so the posterior mean. A parameter that such a forward never reads is stored,
but not active. Of the others the active ones are counted by this rule: if the first axis has the size M, and the
forward of one task reads that task's part alone, 1/M of it; else all. A layer or network for which this is not true has
a method ``active_parameters() -> int``, which then answers for all parameters below it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from varshare_pl.networks.actor_critic import ActorCritic
from varshare_pl.networks.layer import Noise
from varshare_pl.networks.network import TaskNetwork
from varshare_pl.networks.noise import weight_noise

ROWS = 64
WRAPPERS = re.compile(r"^(network\.)+")  # around a method's network, in the names of its parameters


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
        owner, _, name = full_name.partition(".")
        rows.append(ParameterRow(owner, WRAPPERS.sub("", name).removeprefix("stack."), tuple(parameter.shape)))
    return rows


def network_sizes(policy: ActorCritic, obs_size: int) -> dict[str, Size]:
    """The size of each network by its name, with what is trained along behind it.

    Args:
        policy: The actor-critic.
        obs_size: Of an observation row.
    """
    sizes = {}
    for name, network in policy.networks():
        stored = sum(p.numel() for p in policy.parameters_of(name))
        active = active_parameters(network, obs_size) + active_behind(policy, name)
        sizes[name] = Size(stored, active, row_flops(network, obs_size))
    return sizes


def active_behind(policy: ActorCritic, name: str) -> int:
    """Parameters of what stands behind a network that one task uses."""
    tasks = policy.num_tasks
    return sum(p.numel() // (tasks if len(p) == tasks else 1) for p in policy.parameters_behind(name))


def total_size(sizes: Iterable[Size]) -> Size:
    """The sum."""
    return Size(*(sum(column) for column in zip(*sizes, strict=True)))


def active_parameters(network: TaskNetwork, obs_size: int) -> int:
    """Parameters that the evaluation of one task uses, by the rule at the top of this file."""
    return count_active(network, read_parts(network, obs_size))


def count_active(network: TaskNetwork, parts: Mapping[str, int]) -> int:
    """The same for a network whose parts are known from ``read_parts``, of it or of one of other widths."""
    told = sum(module.active_parameters() for module in _telling(network))  # type: ignore[operator]
    return int(told) + sum(p.numel() // parts[n] for n, p in network.named_parameters() if parts.get(n))


def read_parts(network: TaskNetwork, obs_size: int) -> dict[str, int]:
    """Into how many parts a parameter is divided of which one task uses one: M or 1; 0: it uses none.

    By name, without the parameters of modules that count themselves.
    """
    told = {id(parameter) for module in _telling(network) for parameter in module.parameters()}
    left = {name: p for name, p in network.named_parameters() if id(p) not in told}
    gradients = _gradients(network, list(left.values()), obs_size)
    return {name: _parts(p, g, network.num_tasks) for (name, p), g in zip(left.items(), gradients, strict=True)}


def shared_parameters(policy: ActorCritic, name: str) -> list[nn.Parameter]:
    """The parameters of a network, and of what stands behind it, that several tasks' losses depend on.

    Those that the rule does not divide among tasks. Weight noise counts here, for losses have it: what only noise reads
    may be shared too.
    """
    network: TaskNetwork = policy.get_submodule(name)  # type: ignore[assignment]
    parameters = list(network.parameters())
    generator = torch.Generator().manual_seed(0)
    noise = [weight_noise(layer, generator) for _, layer in network.layers()]
    gradients = _gradients(network, parameters, policy.obs_size, noise)
    shared = [p for p, g in zip(parameters, gradients, strict=True) if _parts(p, g, network.num_tasks) == 1]
    return shared + [p for p in policy.parameters_behind(name) if len(p) != network.num_tasks]


def _telling(network: TaskNetwork) -> list[nn.Module]:
    """The modules with an ``active_parameters`` of their own, the outer one where they are nested."""
    found, told = [], set[int]()
    for module in network.modules():
        new = {id(parameter) for parameter in module.parameters()} - told
        if new and hasattr(module, "active_parameters"):
            found.append(module)
            told |= new
    return found


@torch.no_grad()
def row_flops(network: TaskNetwork, obs_size: int) -> int:
    """Twice the multiply-adds of all products in ``compute`` for one row."""
    from torch.utils.flop_counter import FlopCounterMode  # only here is it needed

    first = next(network.parameters())
    prepared = network.prepare(torch.zeros(1, dtype=torch.int64, device=first.device))
    with FlopCounterMode(display=False) as counter:
        network.compute(prepared, first.new_zeros(1, 1, obs_size))
    return int(counter.get_total_flops())


def _gradients(
    network: TaskNetwork, parameters: list[nn.Parameter], obs_size: int, noise: Sequence[Noise] | None = None
) -> list[Tensor | None]:
    """Of the outputs for some rows of task 0; None for a parameter that they do not depend on."""
    if not parameters:
        return []
    like = parameters[0]
    generator = torch.Generator().manual_seed(0)
    with torch.enable_grad():
        rows = torch.randn(1, ROWS, obs_size, generator=generator).to(like)
        task = torch.zeros(1, dtype=torch.int64, device=like.device)
        output = network.compute(network.prepare(task, noise), rows)
        mixed = (output * torch.randn(output.shape, generator=generator).to(output)).sum()
        return list(torch.autograd.grad(mixed, parameters, allow_unused=True))


def _parts(parameter: Tensor, gradient: Tensor | None, num_tasks: int) -> int:
    if gradient is None:
        return 0
    own = parameter.dim() > 0 and len(parameter) == num_tasks and not bool(gradient[1:].any())
    return num_tasks if own else 1
