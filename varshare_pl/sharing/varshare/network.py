"""VarShare's network: its layers, and what acts on all of them at once.

Between rollouts, after the update:

- absorption moves what all residuals have in common into the shared weights, θ ← θ + α μ̄ and μ_m ← μ_m − α μ̄ for all
  m, with μ̄ the mean of the μ_m. Every task's function stays as it is; only the KL falls. Adam's moments stay too: at
  the same function the losses have the same gradients in θ and in each μ_m, so they are what they would have been.
- a controller may move σ_p, see ``noise_controller``.

A task embedding e_m, a vector of d numbers learned for each task, joins the observation at the first layer's input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from varshare_pl.networks.gaussian import LocalNoise
from varshare_pl.networks.layer import LayerSpec, Noise, TaskLinear, of_tasks
from varshare_pl.networks.network import NetworkSpec, TaskMLP
from varshare_pl.sharing.varshare.residual import ResidualLinear


class PriorController(Protocol):
    """Moves the priors of a network's layers between rollouts; a module, whose buffers are its state."""

    noise_ratio: Tensor

    def control(self, layers: Iterable[tuple[str, TaskLinear]], rollout: int) -> None:
        """Look at the layers after the update on a rollout."""
        ...


class VarShareNetwork(TaskMLP):
    """A multilayer perceptron of VarShare's layers.

    Args:
        make_layer: Makes a layer; its parameters are drawn here.
        spec: The sizes.
        generator: Draws the initial weights.
        absorption: α in [0, 1]; 0: none.
        controller: Of the priors; None: they stand still.
    """

    def __init__(
        self,
        make_layer: Callable[[LayerSpec], TaskLinear],
        spec: NetworkSpec,
        generator: torch.Generator,
        absorption: float = 0.0,
        controller: PriorController | None = None,
    ) -> None:
        super().__init__(make_layer, spec, generator)
        self.absorption = absorption
        self.controller = controller

    def after_update(self, rollout: int) -> None:
        if self.absorption:
            for _, layer in self.layers():
                if isinstance(layer, ResidualLinear):
                    layer.absorb(self.absorption)
        if self.controller is not None:
            self.controller.control(self.layers(), rollout)

    def measures(self) -> dict[str, float]:
        return {} if self.controller is None else {"sharing/noise_ratio": float(self.controller.noise_ratio)}


class PreparedWithEmbedding(NamedTuple):
    """The layers' weights, and what joins the observation."""

    embedding: Tensor  # (G, 1, d)
    layers: list[Any]


class EmbeddedVarShareNetwork(VarShareNetwork):
    """The same with a task embedding at the input.

    Args:
        make_layer: See there.
        spec: See there.
        generator: Draws the embeddings too, standard normal, after the weights.
        task_embedding: d, at least 1.
        absorption: See there.
        controller: See there.

    Attributes:
        embedding: (M, d) e.
    """

    def __init__(
        self,
        make_layer: Callable[[LayerSpec], TaskLinear],
        spec: NetworkSpec,
        generator: torch.Generator,
        task_embedding: int,
        absorption: float = 0.0,
        controller: PriorController | None = None,
    ) -> None:
        wider = replace(spec, in_features=spec.in_features + task_embedding)
        super().__init__(make_layer, wider, generator, absorption, controller)
        self.embedding = nn.Parameter(torch.randn(spec.num_tasks, task_embedding, generator=generator))

    def prepare(self, group_task: Tensor, noise: Sequence[Noise] | None = None) -> Any:
        embedding = of_tasks(self.embedding, group_task).unsqueeze(1)
        return PreparedWithEmbedding(embedding, super().prepare(group_task, noise))

    def prepare_shared(self, group_task: Tensor) -> Any:
        embedding = self.embedding.mean(0).expand(len(group_task), 1, -1)
        return PreparedWithEmbedding(embedding, super().prepare_shared(group_task))

    def with_local_noise(self, prepared: Any, noise: Sequence[LocalNoise | None]) -> Any:
        return prepared._replace(layers=super().with_local_noise(prepared.layers, noise))

    def compute(self, prepared: Any, x: Tensor) -> Tensor:
        embedding = prepared.embedding.to(x.dtype).expand(-1, x.shape[1], -1)
        return super().compute(prepared.layers, torch.cat([x, embedding], dim=2))
