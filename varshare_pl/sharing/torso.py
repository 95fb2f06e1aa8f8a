"""Trunks with their heads: what an actor or a critic is.

A method that only changes the linear layers gets an ``MLPTorso`` of them. A whole-network method makes a ``Torso`` of
its own. Both work in two calls, as layers do: ``prepare(group_task, noise)`` builds what the groups need, once per
rollout or minibatch, ``compute(prepared, x)`` uses it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from varshare_pl.gradients import Cotangent, Pullback, by_autograd
from varshare_pl.groups import TaskGroups
from varshare_pl.random import Normals
from varshare_pl.sharing.activations import ACTIVATIONS, ActivationName
from varshare_pl.sharing.base import KLPullback, LayerSpec, NewTask, Noise, TaskLinear
from varshare_pl.sharing.fused import is_plain, mlp, mlp_with_pullback
from varshare_pl.sharing.gaussian import FlipoutNoise, LocalNoise


@dataclass(frozen=True)
class TorsoSpec:
    """What a method is told of a torso that it makes."""

    network: str  # "actor" or "critic"
    in_features: int  # size of an observation row
    hidden_sizes: tuple[int, ...]  # widths of the hidden layers
    out_features: int  # size of the head's output
    num_tasks: int  # M
    activation: ActivationName = "tanh"  # after every hidden layer
    hidden_gain: float = 2**0.5  # scale of the hidden layers' orthogonal initial weights
    head_gain: float = 1.0  # the same for the head


class Torso(nn.Module, ABC):
    """A whole network with its head.

    What ``prepare`` gives may be any nesting of tuples and lists of tensors and None. ``new_task``: see ``TaskLinear``.
    """

    new_task: ClassVar[Mapping[str, NewTask]] = {}
    num_tasks: int
    num_variational: int = 0  # P: the number of variational weights of one task
    _no_kl: Tensor

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        self.num_tasks = num_tasks
        self.register_buffer("_no_kl", torch.zeros(num_tasks), persistent=False)

    @abstractmethod
    def prepare(self, group_task: Tensor, noise: Sequence[Noise] | None = None) -> Any:
        """What the groups need whose tasks are group_task (G,), ascending and each task once at most."""

    @abstractmethod
    def compute(self, prepared: Any, x: Tensor) -> Tensor:
        """Rows x (G, R, in) to outputs (G, R, out), of the weights' type in mixed precision too."""

    def forward(self, x: Tensor, task: Tensor, noise: Sequence[Noise] | None = None) -> Tensor:
        """Rows (rows, in) of any mix of tasks (rows,) to (rows, out); noise as in ``prepare``, weight noise only."""
        groups = TaskGroups.from_rows(task, self.num_tasks)
        return groups.ungroup(self.compute(self.prepare(groups.group_task, noise), groups.group(x)))

    def with_pullback(self, group_task: Tensor, noise: Sequence[Noise] | None, x: Tensor) -> tuple[Tensor, Pullback]:
        """What ``prepare`` and ``compute`` give, without autograd's graph, and its pullback to the parameters."""
        with torch.enable_grad():
            return by_autograd(self.compute(self.prepare(group_task, noise), x))

    # A torso with layers that sharing is measured in, with randomness or with log variances overrides what follows.

    def layers(self) -> Iterator[tuple[str, TaskLinear]]:
        """The task-aware layers by name, input first: layer_1, layer_2, …, head."""
        return iter(())

    def prepare_shared(self, group_task: Tensor) -> Any:
        """The same with every task's deviation from the shared part set to 0."""
        return self.prepare(group_task)

    def draw_weight_noise(self, generator: torch.Generator) -> list[Tensor | None]:
        """One standard normal draw per task and layer."""
        del generator
        return []

    def draw_local_noise(self, groups: int, rows: int, source: Normals) -> list[LocalNoise | None]:
        """Noise of the local reparameterisation for (groups, rows) rows, one entry a layer."""
        del groups, rows, source
        return []

    def draw_flipout_noise(
        self, groups: int, rows: int, weights: torch.Generator, generator: np.random.Generator
    ) -> list[FlipoutNoise | None]:
        """One draw of the weights for each task and signs for (groups, rows) rows, one entry a layer."""
        del groups, rows, weights, generator
        return []

    def local_noise_sizes(self) -> list[int]:
        """Length of a row's local noise, one entry a layer, 0 where it has none."""
        return []

    def with_local_noise(self, prepared: Any, noise: Sequence[LocalNoise | None]) -> Any:
        """What ``prepare`` gave for local noise, with other noise."""
        del noise
        return prepared

    def kl(self) -> Tensor:
        """(M,) KL to the prior in nats, summed over layers."""
        return self._no_kl

    def kl_with_pullback(self, rank: int = 0, processes: int = 1) -> tuple[Tensor, KLPullback]:
        """``kl`` without autograd's graph, and its pullback.

        Each of several processes may take that of some tasks only, times the number of processes, and 0 for the others:
        the means over processes are the same.
        """
        del rank, processes
        with torch.enable_grad():
            kl, pullback = by_autograd(self.kl())
        return kl, lambda scale: pullback(torch.full_like(kl, scale))

    def log_var_parameters(self) -> list[nn.Parameter]:
        """Parameters that are log variances: they get an optimizer group of their own."""
        return []

    def after_update(self, rollout: int) -> None:
        """Act on the weights between rollouts, once the update on this one is done.

        Parameters and buffers are all that it may read and write: they are in checkpoints, and the same on all
        processes.
        """

    def measures(self) -> dict[str, float]:
        """What is to be logged of the network beside how much it shares, by name."""
        return {}


class MLPTorso(Torso):
    """A multilayer perceptron of task-aware layers.

    Args:
        make_layer: Makes a layer; its parameters are drawn here.
        spec: The sizes.
        generator: Draws the initial weights.
    """

    def __init__(
        self, make_layer: Callable[[LayerSpec], TaskLinear], spec: TorsoSpec, generator: torch.Generator
    ) -> None:
        super().__init__(spec.num_tasks)
        self.activation = ACTIVATIONS[spec.activation]
        sizes = [spec.in_features, *spec.hidden_sizes, spec.out_features]
        names = [f"layer_{i}" for i in range(1, len(spec.hidden_sizes) + 1)] + ["head"]
        self.stack = nn.ModuleDict()
        for index, (name, fan_in, fan_out) in enumerate(zip(names, sizes[:-1], sizes[1:], strict=True)):
            layer = make_layer(LayerSpec(name, index, fan_in, fan_out, spec.num_tasks, len(names)))
            layer.reset_parameters(spec.head_gain if name == "head" else spec.hidden_gain, generator)
            self.stack[name] = layer
        self._layers = cast("list[TaskLinear]", list(self.stack.values()))
        self.num_variational = sum(layer.num_variational for layer in self._layers)
        self._fusable = all(type(layer).compute is TaskLinear.compute for layer in self._layers)
        own = type(self)
        self._by_hand = self._fusable and (own.prepare, own.compute) == (MLPTorso.prepare, MLPTorso.compute)

    def layers(self) -> Iterator[tuple[str, TaskLinear]]:
        return zip(self.stack.keys(), self._layers, strict=True)

    def prepare(self, group_task: Tensor, noise: Sequence[Noise] | None = None) -> list[Any]:
        noise = noise or [None] * len(self._layers)
        return [layer.prepare(group_task, eps) for layer, eps in zip(self._layers, noise, strict=True)]

    def prepare_shared(self, group_task: Tensor) -> list[Any]:
        return [layer.prepare_shared(group_task) for layer in self._layers]

    def compute(self, prepared: Sequence[Any], x: Tensor) -> Tensor:
        if self._fusable:
            return mlp(x, prepared, self.activation).to(tensors_of(prepared[-1])[0].dtype)
        return self.compute_by_layers(prepared, x)

    def with_pullback(self, group_task: Tensor, noise: Sequence[Noise] | None, x: Tensor) -> tuple[Tensor, Pullback]:
        if not self._by_hand:
            return super().with_pullback(group_task, noise, x)
        layers = zip(self._layers, noise or [None] * len(self._layers), strict=True)
        pairs = [layer.prepare_with_pullback(group_task, eps) for layer, eps in layers]
        prepared = [weights for weights, _ in pairs]
        if not is_plain(x, prepared):
            return super().with_pullback(group_task, noise, x)
        output, to_layers = mlp_with_pullback(x, prepared, self.activation)

        def pullback(gradient: Tensor) -> list[Cotangent]:
            of_layers = zip(pairs, to_layers(gradient), strict=True)
            return [found for (_, to_parameters), of_layer in of_layers for found in to_parameters(of_layer)]

        return output, pullback

    def compute_by_layers(self, prepared: Sequence[Any], x: Tensor) -> Tensor:
        """The same by autograd's rules alone."""
        *hidden, head = zip(self._layers, prepared, strict=True)
        for layer, weights in hidden:
            x = self.activation.function(layer.compute(weights, x))
        return head[0].compute(head[1], x).to(tensors_of(prepared[-1])[0].dtype)

    def draw_weight_noise(self, generator: torch.Generator) -> list[Tensor | None]:
        return [layer.draw_weight_noise(generator) for layer in self._layers]

    def draw_local_noise(self, groups: int, rows: int, source: Normals) -> list[LocalNoise | None]:
        return [layer.draw_local_noise(groups, rows, source) for layer in self._layers]

    def draw_flipout_noise(
        self, groups: int, rows: int, weights: torch.Generator, generator: np.random.Generator
    ) -> list[FlipoutNoise | None]:
        return [layer.draw_flipout_noise(groups, rows, weights, generator) for layer in self._layers]

    def local_noise_sizes(self) -> list[int]:
        return [0 if layer.noise_sizes is None else layer.noise_sizes[1] for layer in self._layers]

    def with_local_noise(self, prepared: Sequence[Any], noise: Sequence[LocalNoise | None]) -> list[Any]:
        return [w if eps is None else w.with_noise(eps) for w, eps in zip(prepared, noise, strict=True)]

    def kl(self) -> Tensor:
        if not self.num_variational:
            return self._no_kl
        return torch.stack([layer.kl() for layer in self._layers]).sum(0)

    def log_var_parameters(self) -> list[nn.Parameter]:
        return [parameter for layer in self._layers for parameter in layer.log_var_parameters()]


def tensors_of(prepared: Any) -> list[Tensor]:
    """The tensors in what ``Torso.prepare`` gave, in order."""
    if isinstance(prepared, tuple | list):
        return [tensor for part in prepared for tensor in tensors_of(part)]
    return [] if prepared is None else [prepared]


def with_tensors(prepared: Any, tensors: Iterator[Tensor]) -> Any:
    """The same with other tensors in place of those it has."""
    if isinstance(prepared, tuple | list):
        parts = [with_tensors(part, tensors) for part in prepared]
        return type(prepared)(*parts) if hasattr(prepared, "_fields") else type(prepared)(parts)
    return None if prepared is None else next(tensors)
