"""Networks with something per task in front of them or behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from varshare_pl.gradients import Cotangent, Pullback
from varshare_pl.policy.moments import TaskMoments
from varshare_pl.random import Normals
from varshare_pl.sharing.base import KLPullback, Noise, TaskLinear, of_tasks
from varshare_pl.sharing.gaussian import FlipoutNoise, LocalNoise
from varshare_pl.sharing.torso import Torso

CLIP = 10.0  # standard deviations beyond which a normalised observation is cut off


class PreparedWrapper(NamedTuple):
    """What the rows of some groups need: x ↦ (x − shift) · scale in front, or y ↦ scale · y + shift behind."""

    inner: Any
    scale: Tensor  # (G, 1, columns)
    shift: Tensor  # (G, 1, columns)


class Wrapper(Torso):
    """A network around another; all that is not about rows is the other's.

    Args:
        network: The other.
    """

    def __init__(self, network: Torso) -> None:
        super().__init__(network.num_tasks)
        self.network = network
        self.num_variational = network.num_variational

    def prepare(self, group_task: Tensor, noise: Sequence[Noise] | None = None) -> PreparedWrapper:
        return self._prepared(self.network.prepare(group_task, noise), group_task)

    def prepare_shared(self, group_task: Tensor) -> PreparedWrapper:
        return self._prepared(self.network.prepare_shared(group_task), group_task)

    def _prepared(self, inner: Any, group_task: Tensor) -> PreparedWrapper:
        raise NotImplementedError

    def layers(self) -> Iterator[tuple[str, TaskLinear]]:
        return self.network.layers()

    def draw_weight_noise(self, generator: torch.Generator) -> list[Tensor | None]:
        return self.network.draw_weight_noise(generator)

    def draw_local_noise(self, groups: int, rows: int, source: Normals) -> list[LocalNoise | None]:
        return self.network.draw_local_noise(groups, rows, source)

    def draw_flipout_noise(
        self, groups: int, rows: int, weights: torch.Generator, generator: np.random.Generator
    ) -> list[FlipoutNoise | None]:
        return self.network.draw_flipout_noise(groups, rows, weights, generator)

    def local_noise_sizes(self) -> list[int]:
        return self.network.local_noise_sizes()

    def with_local_noise(self, prepared: PreparedWrapper, noise: Sequence[LocalNoise | None]) -> PreparedWrapper:
        return prepared._replace(inner=self.network.with_local_noise(prepared.inner, noise))

    def after_update(self, rollout: int) -> None:
        self.network.after_update(rollout)

    def measures(self) -> dict[str, float]:
        return self.network.measures()

    def kl(self) -> Tensor:
        return self.network.kl()

    def kl_with_pullback(self, rank: int = 0, processes: int = 1) -> tuple[Tensor, KLPullback]:
        return self.network.kl_with_pullback(rank, processes)

    def log_var_parameters(self) -> list[nn.Parameter]:
        return self.network.log_var_parameters()


class NormalisedInput(Wrapper):
    """A network whose observations are normalised by the moments of their task, and cut off at ±``CLIP``.

    Args:
        network: Reads them.
        moments: Of raw observations (in,). Not a part of this module: actor and critic read the same.
    """

    def __init__(self, network: Torso, moments: TaskMoments) -> None:
        super().__init__(network)
        self._moments = (moments,)  # in a tuple, or it would be registered

    def _prepared(self, inner: Any, group_task: Tensor) -> PreparedWrapper:
        (moments,) = self._moments
        scale, shift = of_tasks(moments.std, group_task).reciprocal(), of_tasks(moments.mean, group_task)
        return PreparedWrapper(inner, scale.unsqueeze(1), shift.unsqueeze(1))

    def compute(self, prepared: PreparedWrapper, x: Tensor) -> Tensor:
        return self.network.compute(prepared.inner, self._normalised(x, prepared))

    def with_pullback(self, group_task: Tensor, noise: Sequence[Noise] | None, x: Tensor) -> tuple[Tensor, Pullback]:
        return self.network.with_pullback(group_task, noise, self._normalised(x, self._prepared(None, group_task)))

    def _normalised(self, x: Tensor, by: PreparedWrapper) -> Tensor:
        """In the precision of the moments; rounded to the network's after that, where the numbers are small."""
        normal = ((x - by.shift) * by.scale).clamp(-CLIP, CLIP)
        return normal.to(next(self.network.parameters()).dtype) if normal.dtype is torch.float64 else normal


class RescaledOutput(Wrapper):
    """y_m = a_m f_m(x) + c_m: a critic f with a scale a_m and a shift c_m for each task, learned like its weights.

    PopArt (van Hasselt et al. 2016, arXiv 1602.07714; Hessel et al. 2018, arXiv 1809.04474) keeps what a critic says in
    raw units, σ_m y_m + μ_m, while σ_m and μ_m change. Where this differs from the papers:

    1. They move a task's row of the last layer. Most sharing methods have no such row: a last layer that tasks share
       cannot follow all of them, and VarShare's residual would pay for it in its KL. a_m and c_m follow instead,
       whatever the method.
    2. Moments are those of all value targets so far, not an exponential average, and change once a rollout.
    3. A task's first moments move nothing: what an untrained critic says is not worth keeping, and a_m would start at
       1/σ_m, with gradients as small.

    Args:
        network: f, of one output.
    """

    def __init__(self, network: Torso) -> None:
        super().__init__(network)
        self.scale = nn.Parameter(torch.ones(network.num_tasks))
        self.shift = nn.Parameter(torch.zeros(network.num_tasks))

    def _prepared(self, inner: Any, group_task: Tensor) -> PreparedWrapper:
        scale, shift = (of_tasks(parameter, group_task).view(-1, 1, 1) for parameter in (self.scale, self.shift))
        return PreparedWrapper(inner, scale, shift)

    def compute(self, prepared: PreparedWrapper, x: Tensor) -> Tensor:
        return self.network.compute(prepared.inner, x) * prepared.scale + prepared.shift

    def with_pullback(self, group_task: Tensor, noise: Sequence[Noise] | None, x: Tensor) -> tuple[Tensor, Pullback]:
        inner, to_network = self.network.with_pullback(group_task, noise, x)
        with torch.enable_grad():
            _, scale, shift = self._prepared(None, group_task)

        def pullback(gradient: Tensor) -> list[Cotangent]:
            own = (
                Cotangent(scale, (gradient * inner).sum(1, keepdim=True)),
                Cotangent(shift, gradient.sum(1, keepdim=True)),
            )
            return [*to_network(gradient * scale.detach()), *own]

        return inner * scale.detach() + shift.detach(), pullback

    @torch.no_grad()
    def rescale(self, ratio: Tensor, offset: Tensor) -> None:
        """Every output y of a task becomes ratio · y + offset, (M,) each."""
        self.scale.mul_(ratio)
        self.shift.mul_(ratio).add_(offset)
