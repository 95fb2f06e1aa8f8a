"""Soft modularization: one set of modules for all tasks, and a route through them that the state and the task choose.

The network has L layers of n modules each. Between two layers every module takes a mixture of what all modules before
it give; a routing network makes the probabilities of the mixture. With f(s) an embedding of the observation, h(m) an
embedding of the task, u = f(s) · h(m) their product entry by entry, and σ the activation,

    p^1 = D^1 σ(u),   p^{l+1} = D^{l+1} σ(U^l p^l · u),   p̂^l_{i,j} = softmax of p^l_{i,j} over j
    a^1_j = σ(W^1_j σ(f(s))),   a^{l+1}_i = σ(W^{l+1}_i Σ_j p̂^l_{i,j} a^l_j),   y = head(Σ_j p̂^L_j a^L_j)

each matrix product with a bias. p^l has n² entries, p^L has n. All weights but h are shared.

Yang, Xu, Wu, Wang: Multi-Task Reinforcement Learning with Soft Modularization, NeurIPS 2020, arXiv 2003.13661. What is
different here:

1. PPO's actor and critic are such networks, in place of SAC's policy and Q functions. The paper's weighing of tasks by
   SAC's temperatures has no counterpart: every task weighs the same.
2. The activation is the run's, not ReLU; weights start orthogonal with the run's gains and biases at 0.
3. h is a table with a row per task, which is a linear layer of the one-hot task id without its bias. Its entries start
   standard normal, so that u starts at the size of f(s).
4. The last layer is that of the authors' code, a mixture of the modules and one head behind it. The paper's formula
   gives each module of the last layer a head and adds them up.
5. The routing network is that of the paper's formula. The authors' code feeds it the probabilities of all layers
   before, not the logits of the last one, and has two more layers between u and p^1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, NamedTuple

import torch
from jsonargparse.typing import PositiveInt
from torch import Tensor, nn
from torch.nn.functional import linear

from varshare_pl.networks.activations import ACTIVATIONS
from varshare_pl.networks.checks import check_count
from varshare_pl.networks.initial import orthogonal
from varshare_pl.networks.layer import LinearWeights, Noise
from varshare_pl.networks.method import SharingMethod
from varshare_pl.networks.network import NetworkSpec, TaskMLP, TaskNetwork
from varshare_pl.sharing.shared import Shared, SharedLinear

FEW = 4  # weights of a row, up to which products of so small matrices take longer than to add up


class ModuleLayer(nn.Module):
    """n linear modules side by side, with weight (n, out, in) and bias (n, 1, out).

    Args:
        num_modules: n.
        in_features: Size of what a module takes.
        out_features: Size of what it gives.
        gain: Scale of the orthogonal initial weights.
        generator: Draws them.
    """

    def __init__(
        self, num_modules: int, in_features: int, out_features: int, gain: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_modules, out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(num_modules, 1, out_features))
        orthogonal(self.weight, gain, generator)


class PreparedRoutes(NamedTuple):
    """All that a forward needs; only ``task`` depends on the groups."""

    encoder: list[LinearWeights]  # of f
    task: Tensor  # (G, 1, D) the rows of h
    modules: list[tuple[Tensor, Tensor]]  # weight and bias of each layer of modules
    down: list[tuple[Tensor, Tensor]]  # of each D^l
    up: list[tuple[Tensor, Tensor]]  # of each U^l
    head: tuple[Tensor, Tensor]


class SoftModularNetwork(TaskNetwork):
    """Modules and the network that routes between them.

    Args:
        spec: The sizes. ``hidden_sizes[:-1]`` are the hidden layers of f; ``hidden_sizes[-1]`` is the width of a
            module, so that one route is as wide as the plain network.
        generator: Draws the initial weights.
        num_layers: L.
        num_modules: n.
        embedding_size: D, the size of f(s) and of h(m); None: ``hidden_sizes[-1]``.

    Attributes:
        task_embedding: (M, D) the table h.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        generator: torch.Generator,
        num_layers: int = 2,
        num_modules: int = 2,
        embedding_size: int | None = None,
    ) -> None:
        super().__init__(spec.num_tasks)
        width = spec.hidden_sizes[-1]
        size = width if embedding_size is None else embedding_size
        for name, value in (("num_layers", num_layers), ("num_modules", num_modules), ("embedding_size", size)):
            check_count(name, value)
        self.activation = ACTIVATIONS[spec.activation]
        self.num_modules = num_modules
        gain = spec.hidden_gain
        of_encoder = replace(spec, hidden_sizes=spec.hidden_sizes[:-1], out_features=size, head_gain=gain)
        self.encoder = TaskMLP(Shared().make_layer, of_encoder, generator)
        self.task_embedding = nn.Parameter(torch.randn(spec.num_tasks, size, generator=generator))
        self.layer_modules = nn.ModuleList(
            ModuleLayer(num_modules, width if layer else size, width, gain, generator) for layer in range(num_layers)
        )

        def shared(fan_in: int, fan_out: int, gain: float) -> SharedLinear:
            made = SharedLinear(fan_in, fan_out, spec.num_tasks)
            made.reset_parameters(gain, generator)
            return made

        logits = [num_modules**2] * (num_layers - 1) + [num_modules]
        self.down = nn.ModuleList(shared(size, count, gain) for count in logits)
        self.up = nn.ModuleList(shared(count, size, gain) for count in logits[:-1])
        self.head = shared(width, spec.out_features, spec.head_gain)

    def prepare(self, group_task: Tensor, noise: Sequence[Noise] | None = None) -> PreparedRoutes:
        return PreparedRoutes(
            self.encoder.prepare(group_task),
            self.task_embedding[group_task].unsqueeze(1),
            _weights(self.layer_modules),
            _weights(self.down),
            _weights(self.up),
            (self.head.weight, self.head.bias),
        )

    def compute(self, prepared: PreparedRoutes, x: Tensor) -> Tensor:
        embedded = self.encoder.compute(prepared.encoder, x)
        *routes, last = self._routes(prepared, embedded)
        (weight, bias), *deeper = prepared.modules
        # The modules of the first layer take the same rows, so that they are one multiply.
        output = linear(self.activation(embedded).flatten(0, 1), weight.flatten(0, 1), bias.flatten())
        output = self.activation(output).view(-1, self.num_modules, weight.shape[-2])  # (G · R, n, width)
        for route, (weight, bias) in zip(routes, deeper, strict=True):
            mixed = _mixed(route.flatten(0, 1), output)
            output = self.activation(torch.baddbmm(bias, mixed.transpose(0, 1), weight.mT)).transpose(0, 1)
        mixed = _mixed(last.flatten(0, 1).unsqueeze(1), output).squeeze(1)
        return linear(mixed, *prepared.head).view(*x.shape[:2], -1).to(x.dtype)

    def routes(self, prepared: PreparedRoutes, x: Tensor) -> list[Tensor]:
        """The probabilities p̂: (G, R, n, n) behind each layer of modules, (G, R, n) behind the last."""
        return self._routes(prepared, self.encoder.compute(prepared.encoder, x))

    def _routes(self, prepared: PreparedRoutes, embedded: Tensor) -> list[Tensor]:
        both = embedded * prepared.task
        logits = linear(self.activation(both), *prepared.down[0])
        every = [logits]
        for up, down in zip(prepared.up, prepared.down[1:], strict=True):
            logits = linear(self.activation(linear(logits, *up) * both), *down)
            every.append(logits)
        square = (self.num_modules, self.num_modules)
        routes = [logits.view(*logits.shape[:-1], *square).softmax(-1) for logits in every[:-1]]
        return [*routes, every[-1].softmax(-1)]


def _mixed(routes: Tensor, outputs: Tensor) -> Tensor:
    """Outputs (rows, n, width), weighed by routes (rows, k, n): (rows, k, width)."""
    if routes.shape[1] * routes.shape[2] > FEW:
        return torch.bmm(routes, outputs)
    (first, *weights), (column, *columns) = routes.unsqueeze(-1).unbind(2), outputs.unsqueeze(1).unbind(2)
    mixed = first * column
    for weight, other in zip(weights, columns, strict=True):
        mixed = torch.addcmul(mixed, weight, other)
    return mixed


def _weights(layers: nn.ModuleList) -> list[tuple[Tensor, Tensor]]:
    return [(layer.weight, layer.bias) for layer in layers]  # type: ignore[misc]


class SoftModularization(SharingMethod):
    """Modules that all tasks share, and a route through them that the state and the task choose.

    Args:
        num_layers: Layers of modules L.
        num_modules: Modules in a layer n; each is as wide as the last hidden size. Two layers of two are the smaller of
            the paper's two networks; the other has four layers of four.
        embedding_size: Size of the observation's embedding and of the task's, which are multiplied; None: the last
            hidden size.
    """

    name: ClassVar[str] = "soft_modularization"

    def __init__(
        self, num_layers: PositiveInt = 2, num_modules: PositiveInt = 2, embedding_size: PositiveInt | None = None
    ) -> None:
        self.num_layers = num_layers
        self.num_modules = num_modules
        self.embedding_size = embedding_size

    def make_network(self, spec: NetworkSpec, generator: torch.Generator) -> SoftModularNetwork:
        return SoftModularNetwork(spec, generator, self.num_layers, self.num_modules, self.embedding_size)
