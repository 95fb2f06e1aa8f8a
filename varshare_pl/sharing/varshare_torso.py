"""VarShare's network: its layers, and what acts on all of them at once.

Between rollouts, after the update:

- absorption moves what all residuals have in common into the shared weights, θ ← θ + α μ̄ and μ_m ← μ_m − α μ̄ for all
  m, with μ̄ the mean of the μ_m. Every task's function stays as it is; only the KL falls. Adam's moments stay too: at
  the same function the losses have the same gradients in θ and in each μ_m, so they are what they would have been.
- the noise controller moves σ_p, see ``noise_controller``.

A task embedding e_m, a vector of d numbers learned for each task, joins the observation at the first layer's input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from varshare_pl.gradients import WHOLE, Cotangent
from varshare_pl.sharing.base import KLPullback, LayerSpec, Noise, TaskLinear, of_tasks
from varshare_pl.sharing.gaussian import LocalNoise, kl_and_excess
from varshare_pl.sharing.noise_controller import ControlledPriorLinear, NoiseController
from varshare_pl.sharing.residual import ResidualLinear
from varshare_pl.sharing.torso import MLPTorso, TorsoSpec
from varshare_pl.sharing.varshare_linear import VarShareLinear


class PreparedWithEmbedding(NamedTuple):
    """Layers, and what joins the observation."""

    embedding: Tensor  # (G, 1, d)
    layers: list[Any]


class VarShareTorso(MLPTorso):
    """A multilayer perceptron of VarShare's layers.

    Args:
        make_layer: Makes a layer; its parameters are drawn here.
        spec: The sizes.
        generator: Draws the initial weights.
        absorption: α in [0, 1]; 0: none.
        noise_controller: Whether σ_p is controlled; the layers with residuals must be ``ControlledPriorLinear``.

    Attributes:
        controller: The noise controller, or None.
    """

    def __init__(
        self,
        make_layer: Callable[[LayerSpec], TaskLinear],
        spec: TorsoSpec,
        generator: torch.Generator,
        absorption: float = 0.0,
        noise_controller: bool = False,
    ) -> None:
        super().__init__(make_layer, spec, generator)
        self.absorption = absorption
        self.controller = NoiseController() if noise_controller else None
        plain = [layer for _, layer in self.layers() if isinstance(layer, VarShareLinear)]
        every = sum(layer.num_variational for layer in plain) == self.num_variational
        own = type(self).kl is MLPTorso.kl and all(type(layer).kl is VarShareLinear.kl for layer in plain)
        self._plain = plain if every and own else []  # what kl_with_pullback takes all at once
        self._sizes = [layer.num_variational for layer in self._plain]
        self._kept: tuple[Tensor, Tensor] | None = None

    def kl_with_pullback(self, rank: int = 0, processes: int = 1) -> tuple[Tensor, KLPullback]:
        """All layers at once, if their priors stand still: an operation on a small layer costs little but its call."""
        layers = self._plain
        if not layers:
            return super().kl_with_pullback()
        own = slice(rank * self.num_tasks // processes, (rank + 1) * self.num_tasks // processes)
        own = WHOLE if processes == 1 else own
        mu = torch.cat([layer.mu.detach()[own].flatten(1) for layer in layers], 1)
        log_var = torch.cat([layer.log_var.detach()[own].flatten(1) for layer in layers], 1)
        kl, excess = kl_and_excess(mu, log_var, *self._priors(mu))
        if processes > 1:
            part, kl = kl, self._no_kl.clone()
            kl[own] = part * processes

        def pullback(scale: float) -> list[Cotangent]:
            found = []
            scale *= processes
            for layer, of_layer in zip(layers, torch.split(excess, self._sizes, 1), strict=True):
                mu, log_var = layer.mu, layer.log_var
                found.append(Cotangent(mu, mu.detach()[own], scale * layer.prior_std**-2, own))
                found.append(Cotangent(log_var, of_layer.view(-1, *log_var.shape[1:]), 0.5 * scale, own))
            return found

        return kl, pullback

    def _priors(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Ln σ_p² and 1/σ_p² of a task's weights, layer behind layer."""
        if self._kept is None or (self._kept[0].dtype, self._kept[0].device) != (like.dtype, like.device):
            priors = zip(self._sizes, self._plain, strict=True)
            stds = torch.cat([like.new_full((size,), layer.prior_std) for size, layer in priors])
            self._kept = 2.0 * stds.log(), stds.pow(-2)
        return self._kept

    def after_update(self, rollout: int) -> None:
        if self.absorption:
            for _, layer in self.layers():
                if isinstance(layer, ResidualLinear):
                    layer.absorb(self.absorption)
        if self.controller is not None:
            self.controller(self._controlled(), rollout)

    def _controlled(self) -> list[ControlledPriorLinear]:
        return [layer for _, layer in self.layers() if isinstance(layer, ControlledPriorLinear)]

    def measures(self) -> dict[str, float]:
        return {} if self.controller is None else {"sharing/noise_ratio": float(self.controller.noise_ratio)}


class EmbeddedVarShareTorso(VarShareTorso):
    """The same with a task embedding at the input.

    Args:
        make_layer: See there.
        spec: See there.
        generator: Draws the embeddings too, standard normal, after the weights.
        task_embedding: d, at least 1.
        absorption: See there.
        noise_controller: See there.

    Attributes:
        embedding: (M, d) e.
    """

    def __init__(
        self,
        make_layer: Callable[[LayerSpec], TaskLinear],
        spec: TorsoSpec,
        generator: torch.Generator,
        task_embedding: int,
        absorption: float = 0.0,
        noise_controller: bool = False,
    ) -> None:
        wider = replace(spec, in_features=spec.in_features + task_embedding)
        super().__init__(make_layer, wider, generator, absorption, noise_controller)
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
        return super().compute(prepared.layers, _joined(prepared, x))

    def compute_by_layers(self, prepared: Any, x: Tensor) -> Tensor:
        return super().compute_by_layers(prepared.layers, _joined(prepared, x))


def _joined(prepared: PreparedWithEmbedding, x: Tensor) -> Tensor:
    """The rows (G, R, in) that the first layer takes."""
    embedding = prepared.embedding.to(x.dtype).expand(-1, x.shape[1], -1)
    return torch.cat([x, embedding], dim=2)
