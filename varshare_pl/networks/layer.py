"""Task-aware linear layers (``TaskLinear``), which a sharing method makes, and their weights.

A batch inside the system is a stack of task groups: x (G, R, in) holds R rows for each of G groups, and group_task (G,)
names each group's task. So absent tasks cost nothing, and a layer is one batched multiply. A layer works in two calls:
``prepare(group_task, noise)`` builds the groups' weights, once per rollout or minibatch, and ``apply`` of what it gives
multiplies rows with them.

A layer has to say how its weights start and what they are for a group. What else it can do it says by a base class:
``PenalisedLayer`` for weights that a KL holds to a prior, ``VariationalLayer`` for weights that are random as well.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from varshare_pl.networks.gaussian import LocalNoise, local_output
from varshare_pl.networks.groups import TaskGroups

Noise = Tensor | LocalNoise | None
"""A layer's noise: standard normal weight noise (M, out, in), that of rows, or None for the posterior mean."""

NewTask = Literal["mean", "own", "zero"]
"""How a task that joins a trained network starts: at the mean of the tasks before it, as in a new network, or at 0."""


class LinearWeights(NamedTuple):
    """The weights of a linear layer, ready for the rows of its groups."""

    weight: Tensor  # (G, out, in), or (out, in) where every task has the same
    bias: Tensor  # (G, 1, out), or (out,) where every task has the same
    variance: Tensor | None = None  # (G, out, in) σ², only under local noise
    zeta: Tensor | None = None  # (G, R, out), only under local noise

    def apply(self, x: Tensor) -> Tensor:
        """Rows x (G, R, in) through the weights: (G, R, out)."""
        if self.weight.dim() == 3:
            bias = self.bias if self.bias.dim() == 3 else self.bias.view(1, 1, -1)
            output = torch.baddbmm(bias, x, self.weight.mT)
        elif self.bias.dim() == 1:
            output = nn.functional.linear(x, self.weight, self.bias)
        else:
            output = nn.functional.linear(x, self.weight) + self.bias
        if self.variance is not None and self.zeta is not None:
            output = local_output(output, x, self.variance, self.zeta)
        return output

    def with_noise(self, noise: LocalNoise) -> LinearWeights:
        """The same with other local noise."""
        return self._replace(zeta=noise.zeta)

    @property
    def are_shared(self) -> bool:
        """Whether all groups have the same weights."""
        return self.weight.dim() == 2 and self.bias.dim() == 1 and self.variance is None


class TaskLinear(nn.Module, ABC):
    """A linear layer whose weights may depend on the task.

    The constructor allocates parameters; the network that the layer is part of then has ``reset_parameters`` draw them.

    Args:
        in_features: Size of an input row.
        out_features: Size of an output row.
        num_tasks: Number of tasks M; tasks count from 0.

    ``new_task`` says by parameter how a task starts that joins a trained network; what it does not name is "mean".
    """

    new_task: ClassVar[Mapping[str, NewTask]] = {}

    def __init__(self, in_features: int, out_features: int, num_tasks: int) -> None:
        super().__init__()
        for name, size in (("in_features", in_features), ("out_features", out_features), ("num_tasks", num_tasks)):
            if size < 1:
                raise ValueError(f"{name}: {size} is not allowed; a positive integer is")
        self.in_features = in_features
        self.out_features = out_features
        self.num_tasks = num_tasks

    @abstractmethod
    def reset_parameters(self, gain: float, generator: torch.Generator) -> None:
        """Draw the initial weights from the generator: orthogonal ones, scaled by gain; biases start at 0."""

    @abstractmethod
    def prepare(self, group_task: Tensor, noise: Noise = None) -> Any:
        """The weights of the groups whose tasks are group_task (G,), ascending and each task once at most.

        Returns:
            ``LinearWeights``, or another tuple of tensors with a method ``apply``.
        """

    def prepare_shared(self, group_task: Tensor) -> Any:
        """The weights with every task's deviation from the shared ones set to 0: what sharing alone achieves."""
        return self.prepare(group_task)

    def shared_and_residual(self) -> tuple[Tensor, Tensor] | None:
        """What the tasks' weights have in common, and how each task's differ from it; None if all are the same.

        The two add up to the weights, and the differences to 0 over the tasks, so that neither depends on how the layer
        divides its weights. The ``sharing/*`` columns are computed from them.

        Returns:
            θ̄ (out, in) and μ̃ (M, out, in).
        """
        return None

    def forward(self, x: Tensor, task: Tensor, noise: Noise = None) -> Tensor:
        """Rows of any mix of tasks.

        Args:
            x: (rows, in).
            task: (rows,) integers in [0, M).
            noise: (M, out, in) standard normal weight noise, one draw per task; ``LocalNoise`` with (rows, out) in
                place of (G, R, out); None for the posterior mean. Deterministic layers ignore it.

        Returns:
            (rows, out).
        """
        groups = TaskGroups.from_rows(task, self.num_tasks)
        if isinstance(noise, LocalNoise):
            noise = LocalNoise(groups.group(noise.zeta))
        output: Tensor = self.prepare(groups.group_task, noise).apply(groups.group(x))
        return groups.ungroup(output)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, num_tasks={self.num_tasks}"


class PenalisedLayer(ABC):
    """A layer that pays for what its tasks have of their own."""

    @property
    @abstractmethod
    def num_variational(self) -> int:
        """P: the number of weights of one task that are paid for."""

    @abstractmethod
    def kl(self) -> Tensor:
        """(M,) KL to the prior of each task's weights, in nats."""

    def current_prior_std(self) -> Tensor | None:
        """() the prior's standard deviation σ_p where it changes during training, else None."""
        return None


class NoiseShape(NamedTuple):
    """The sizes of a layer's noise."""

    weights: tuple[int, ...]  # of a draw for all tasks: (M, out, in) for a full matrix
    outputs: int  # length of a row's noise at the layer's outputs


class VariationalLayer(PenalisedLayer):
    """A layer whose weights are random, with a learned variance."""

    @property
    @abstractmethod
    def noise_shape(self) -> NoiseShape:
        """The sizes of its noise."""

    @abstractmethod
    def sigma(self) -> Tensor:
        """(M, out, in) standard deviations of the weights."""

    @abstractmethod
    def log_var_parameters(self) -> list[nn.Parameter]:
        """The parameters that are log variances; the optimizer has a group for them."""


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
