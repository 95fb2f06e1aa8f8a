"""What an actor or a critic is: a whole network, from the observation to the output.

A method that only changes the linear layers gets a ``TaskMLP`` of them. A method about whole networks makes a
``TaskNetwork`` of its own. Both work in two calls, as layers do: ``prepare(group_task, noise)`` builds what the groups
need, once per rollout or minibatch, ``compute(prepared, x)`` uses it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from varshare_pl.errors import ConfigError
from varshare_pl.networks.activations import ACTIVATIONS, ActivationName
from varshare_pl.networks.gaussian import LocalNoise
from varshare_pl.networks.groups import TaskGroups
from varshare_pl.networks.layer import (
    LayerSpec,
    LinearWeights,
    NewTask,
    Noise,
    PenalisedLayer,
    TaskLinear,
    VariationalLayer,
)


@dataclass(frozen=True)
class NetworkSpec:
    """What a method is told of a network that it makes."""

    network: str  # "actor" or "critic"
    in_features: int  # size of an observation row
    hidden_sizes: tuple[int, ...]  # widths of the hidden layers
    out_features: int  # size of the output
    num_tasks: int  # M
    activation: ActivationName = "tanh"  # after every hidden layer
    hidden_gain: float = 2**0.5  # scale of the hidden layers' orthogonal initial weights
    head_gain: float = 1.0  # the same for the last layer


class TaskNetwork(nn.Module, ABC):
    """A whole network whose weights may depend on the task.

    What ``prepare`` gives may be any nesting of tuples and lists of tensors and None. ``new_task``: see ``TaskLinear``.

    Args:
        num_tasks: M.
    """

    new_task: ClassVar[Mapping[str, NewTask]] = {}

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        self.num_tasks = num_tasks

    @abstractmethod
    def prepare(self, group_task: Tensor, noise: Sequence[Noise] | None = None) -> Any:
        """What the groups need whose tasks are group_task (G,), ascending and each task once at most.

        Args:
            group_task: (G,).
            noise: One entry for each of ``layers``; None for the posterior mean.
        """

    @abstractmethod
    def compute(self, prepared: Any, x: Tensor) -> Tensor:
        """Rows x (G, R, in) to outputs (G, R, out), of the type of x in mixed precision too."""

    def forward(self, x: Tensor, task: Tensor, noise: Sequence[Noise] | None = None) -> Tensor:
        """Rows (rows, in) of any mix of tasks (rows,) to (rows, out); noise as in ``prepare``, weight noise only."""
        groups = TaskGroups.from_rows(task, self.num_tasks)
        return groups.ungroup(self.compute(self.prepare(groups.group_task, noise), groups.group(x)))

    # What a network may say beyond that.

    def layers(self) -> Iterator[tuple[str, TaskLinear]]:
        """The layers that sharing is measured in, that have noise or that are penalised, by name, input first."""
        return iter(())

    def prepare_shared(self, group_task: Tensor) -> Any:
        """The same with every task's deviation from the shared part set to 0."""
        return self.prepare(group_task)

    def with_local_noise(self, prepared: Any, noise: Sequence[LocalNoise | None]) -> Any:
        """What ``prepare`` gave for local noise, with other noise."""
        del noise
        return prepared

    def after_update(self, rollout: int) -> None:
        """Act on the weights between rollouts, once the update on this one is done.

        Parameters and buffers are all that it may read and write: they are in checkpoints, and the same on all
        processes.
        """

    def measures(self) -> dict[str, float]:
        """What is to be logged of the network beside how much it shares, by name."""
        return {}

    # What follows from its layers.

    @cached_property
    def has_noise(self) -> bool:
        """Whether any layer has."""
        return any(isinstance(layer, VariationalLayer) for _, layer in self.layers())

    @cached_property
    def num_variational(self) -> int:
        """P: the number of weights of one task that are held to a prior."""
        return sum(layer.num_variational for _, layer in self.layers() if isinstance(layer, PenalisedLayer))

    def kl(self) -> Tensor:
        """(M,) KL to the prior in nats, summed over layers."""
        kls = [layer.kl() for _, layer in self.layers() if isinstance(layer, PenalisedLayer)]
        return torch.stack(kls).sum(0) if kls else next(self.parameters()).new_zeros(self.num_tasks)

    def log_var_parameters(self) -> list[nn.Parameter]:
        """Parameters that are log variances: they get an optimizer group of their own."""
        layers = [layer for _, layer in self.layers() if isinstance(layer, VariationalLayer)]
        return [parameter for layer in layers for parameter in layer.log_var_parameters()]


def mlp(x: Tensor, prepared: Sequence[Any], activation: Callable[[Tensor], Tensor]) -> Tensor:
    """Rows x (G, R, in) through layers, the activation between them: (G, R, out), of the type of x."""
    if all(isinstance(weights, LinearWeights) and weights.are_shared for weights in prepared):
        rows = x.flatten(0, -2)  # one product of all rows
    else:
        rows = x
    for weights in prepared[:-1]:
        rows = activation(weights.apply(rows))
    return prepared[-1].apply(rows).view(*x.shape[:-1], -1).to(x.dtype)  # type: ignore[no-any-return]


class TaskMLP(TaskNetwork):
    """A multilayer perceptron of task-aware layers.

    Args:
        make_layer: Makes a layer; its initial weights are drawn here.
        spec: The sizes.
        generator: Draws the initial weights.
    """

    def __init__(
        self, make_layer: Callable[[LayerSpec], TaskLinear], spec: NetworkSpec, generator: torch.Generator
    ) -> None:
        super().__init__(spec.num_tasks)
        self.activation = ACTIVATIONS[spec.activation]
        self.through_layers = mlp  # or what does the same, in C++
        sizes = [spec.in_features, *spec.hidden_sizes, spec.out_features]
        names = [f"layer_{i}" for i in range(1, len(spec.hidden_sizes) + 1)] + ["head"]
        self.stack = nn.ModuleDict()
        for index, (name, fan_in, fan_out) in enumerate(zip(names, sizes[:-1], sizes[1:], strict=True)):
            layer = make_layer(LayerSpec(name, index, fan_in, fan_out, spec.num_tasks, len(names)))
            layer.reset_parameters(spec.head_gain if name == "head" else spec.hidden_gain, generator)
            _check(layer, name)
            self.stack[name] = layer
        self._layers = cast("list[TaskLinear]", list(self.stack.values()))

    def layers(self) -> Iterator[tuple[str, TaskLinear]]:
        return zip(self.stack.keys(), self._layers, strict=True)

    def prepare(self, group_task: Tensor, noise: Sequence[Noise] | None = None) -> list[Any]:
        of_layers = zip(self._layers, noise or [None] * len(self._layers), strict=True)
        return [layer.prepare(group_task, eps) for layer, eps in of_layers]

    def prepare_shared(self, group_task: Tensor) -> list[Any]:
        return [layer.prepare_shared(group_task) for layer in self._layers]

    def compute(self, prepared: Sequence[Any], x: Tensor) -> Tensor:
        return self.through_layers(x, prepared, self.activation)

    def with_local_noise(self, prepared: Sequence[Any], noise: Sequence[LocalNoise | None]) -> list[Any]:
        return [w if eps is None else w.with_noise(eps) for w, eps in zip(prepared, noise, strict=True)]


def _check(layer: TaskLinear, name: str) -> None:
    """See that a layer, which may be a user's, gives weights that take rows to outputs.

    Raises:
        ConfigError: if it does not.
    """
    where = f"model.sharing: {name}, a {type(layer).__name__}:"
    with torch.no_grad():
        prepared = layer.prepare(torch.zeros(1, dtype=torch.int64))
        if not isinstance(prepared, tuple) or not hasattr(prepared, "apply"):
            raise ConfigError(
                f"{where} prepare gave a {type(prepared).__name__}; LinearWeights, or another tuple of tensors with a "
                "method apply, is allowed"
            )
        found, rows = tuple(prepared.apply(torch.zeros(1, 2, layer.in_features)).shape), (1, 2, layer.out_features)
    if found != rows:
        raise ConfigError(f"{where} two rows of one group gave outputs of shape {found}; {rows} is allowed")


def tensors_of(prepared: Any) -> list[Tensor]:
    """The tensors in what ``TaskNetwork.prepare`` gave, in order."""
    if isinstance(prepared, tuple | list):
        return [tensor for part in prepared for tensor in tensors_of(part)]
    return [] if prepared is None else [prepared]


def with_tensors(prepared: Any, tensors: Iterator[Tensor]) -> Any:
    """The same with other tensors in place of those it has."""
    if isinstance(prepared, tuple | list):
        parts = [with_tensors(part, tensors) for part in prepared]
        return type(prepared)(*parts) if hasattr(prepared, "_fields") else type(prepared)(parts)
    return None if prepared is None else next(tensors)
