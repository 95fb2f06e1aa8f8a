"""Task-aware linear layers (``TaskLinear``), which a sharing method makes, and what goes through them.

A batch inside the system is a stack of task groups: x (G, R, in) holds R rows for each of G groups, and group_task (G,)
names each group's task. So absent tasks cost nothing, and a layer is one batched multiply. A layer works in two calls:
``prepare(group_task, noise)`` builds the groups' weights (once per rollout or minibatch), ``compute(prepared, x)``
uses them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from varshare_pl.groups import TaskGroups
from varshare_pl.sharing.gaussian import LocalNoise, local_output

Noise = Tensor | LocalNoise | None
"""A layer's noise: standard normal weight noise (M, out, in), local noise, or None for the posterior mean."""


class Prepared(NamedTuple):
    """A layer's weights, ready for the rows of its groups."""

    weight: Tensor  # (G, out, in), or (out, in) where every task has the same
    bias: Tensor  # (G, 1, out), or (out,) where every task has the same
    variance: Tensor | None = None  # (G, out, in) σ², only under local noise
    zeta: Tensor | None = None  # (G, R, out), only under local noise


def times(prepared: Prepared, x: Tensor) -> Tensor:
    """Rows x (G, R, in) through prepared weights, by autograd's rules: (G, R, out)."""
    if prepared.weight.dim() == 2:
        output = torch.matmul(x, prepared.weight.mT) + prepared.bias
    elif prepared.bias.dim() == 1:
        output = torch.baddbmm(prepared.bias.view(1, 1, -1), x, prepared.weight.mT)
    else:
        output = torch.baddbmm(prepared.bias, x, prepared.weight.mT)
    if prepared.variance is not None and prepared.zeta is not None:
        output = local_output(output, x, prepared.variance, prepared.zeta)
    return output


class TaskLinear(nn.Module, ABC):
    """A linear layer whose weights may depend on the task.

    Args:
        in_features: Size of an input row.
        out_features: Size of an output row.
        num_tasks: Number of tasks M; tasks count from 0.
    """

    def __init__(self, in_features: int, out_features: int, num_tasks: int) -> None:
        super().__init__()
        for name, size in (("in_features", in_features), ("out_features", out_features), ("num_tasks", num_tasks)):
            if size < 1:
                raise ValueError(f"{name}: {size} is not allowed; a positive integer is")
        self.in_features = in_features
        self.out_features = out_features
        self.num_tasks = num_tasks

    @abstractmethod
    def reset_parameters(self, gain: float, generator: torch.Generator | None = None) -> None:
        """Draw initial weights (orthogonal, scaled by gain); biases start at 0."""

    @abstractmethod
    def prepare(self, group_task: Tensor, noise: Noise = None) -> Prepared:
        """The weights of the groups whose tasks are group_task (G,), ascending and each task once at most."""

    def compute(self, prepared: Prepared, x: Tensor) -> Tensor:
        """Rows x (G, R, in) through their groups' weights: (G, R, out)."""
        return times(prepared, x)

    def forward(self, x: Tensor, task: Tensor, noise: Noise = None) -> Tensor:
        """Rows of any mix of tasks.

        Args:
            x: (rows, in).
            task: (rows,) integers in [0, M).
            noise: (M, out, in) standard normal weight noise, one draw per task; ``LocalNoise`` with zeta (rows, out)
                for the local reparameterisation; None for the posterior mean. Deterministic layers ignore it.

        Returns:
            (rows, out).
        """
        groups = TaskGroups.from_rows(task, self.num_tasks)
        if isinstance(noise, LocalNoise):
            noise = LocalNoise(groups.group(noise.zeta))
        return groups.ungroup(self.compute(self.prepare(groups.group_task, noise), groups.group(x)))

    # A method with randomness or task-specific weights overrides what follows.

    @property
    def num_variational(self) -> int:
        """P: the number of variational weights of one task."""
        return 0

    def kl(self) -> Tensor:
        """(M,) KL to the prior of each task's weights, in nats."""
        return next(self.parameters()).new_zeros(self.num_tasks)

    def draw_weight_noise(self, generator: torch.Generator) -> Tensor | None:
        """(M, out, in) standard normal, or None for a deterministic layer."""
        del generator
        return None

    def draw_local_noise(self, groups: int, rows: int, generator: np.random.Generator) -> LocalNoise | None:
        """Local noise for (groups, rows) rows, or None for a deterministic layer."""
        del groups, rows, generator
        return None

    def gauged(self) -> tuple[Tensor, Tensor] | None:
        """θ̄ (out, in) and μ̃ (M, out, in) in the gauge where μ̃ averages to 0 over tasks; None without task weights."""
        return None

    def sigma(self) -> Tensor | None:
        """(M, out, in) posterior standard deviations; None for a deterministic layer."""
        return None

    def prepare_shared(self, group_task: Tensor) -> Prepared:
        """The weights with every μ̃ set to 0: what sharing alone achieves."""
        return self.prepare(group_task)

    def log_var_parameters(self) -> list[nn.Parameter]:
        """Parameters that are log variances: they get an optimizer group of their own."""
        return []

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, num_tasks={self.num_tasks}"


@dataclass(frozen=True)
class LayerSpec:
    """What a method is told of a layer that it makes."""

    name: str  # "layer_1", "layer_2", …, "head"
    index: int  # from 0 at the input
    in_features: int
    out_features: int
    num_tasks: int
    num_layers: int = 1  # of its network, the head included


def of_tasks(stacked: Tensor, group_task: Tensor) -> Tensor:
    """The groups' share of a parameter (M, …); a batch with every task in it, the usual one, needs no copy."""
    return stacked if len(group_task) == len(stacked) else stacked[group_task]


def orthogonal(weight: Tensor, gain: float, generator: torch.Generator | None) -> None:
    """Fill weight (out, in) with an orthogonal matrix scaled by gain."""
    nn.init.orthogonal_(weight, gain=gain, generator=generator)
