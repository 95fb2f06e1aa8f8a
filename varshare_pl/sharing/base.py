"""Task-aware linear layers (``TaskLinear``), which a sharing method makes, and what goes through them.

A batch inside the system is a stack of task groups: x (G, R, in) holds R rows for each of G groups, and group_task (G,)
names each group's task. So absent tasks cost nothing, and a layer is one batched multiply. A layer works in two calls:
``prepare(group_task, noise)`` builds the groups' weights (once per rollout or minibatch), ``compute(prepared, x)``
uses them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from varshare_pl.gradients import Cotangent
from varshare_pl.groups import TaskGroups
from varshare_pl.random import Normals, NormalTable, normal, signs
from varshare_pl.sharing.gaussian import FlipoutNoise, LocalNoise, local_output

Noise = Tensor | LocalNoise | FlipoutNoise | None
"""A layer's noise: standard normal weight noise (M, out, in), that of rows, or None for the posterior mean."""

KLPullback = Callable[[float], list[Cotangent]]
"""Takes the gradient of each task's KL, the same for all tasks, to the parameters."""

NewTask = Literal["mean", "own", "zero"]
"""How a task that joins a trained network starts: at the mean of the tasks before it, as in a new network, or at 0."""


class Prepared(NamedTuple):
    """A layer's weights, ready for the rows of its groups."""

    weight: Tensor  # (G, out, in), or (out, in) where every task has the same
    bias: Tensor  # (G, 1, out), or (out,) where every task has the same
    variance: Tensor | None = None  # (G, out, in) σ², only under local noise
    zeta: Tensor | None = None  # (G, R, out), only under local noise

    def times(self, x: Tensor) -> Tensor:
        """Rows x (G, R, in) through the weights, by autograd's rules: (G, R, out)."""
        if self.weight.dim() == 2:
            output = torch.matmul(x, self.weight.mT) + self.bias
        elif self.bias.dim() == 1:
            output = torch.baddbmm(self.bias.view(1, 1, -1), x, self.weight.mT)
        else:
            output = torch.baddbmm(self.bias, x, self.weight.mT)
        if self.variance is not None and self.zeta is not None:
            output = local_output(output, x, self.variance, self.zeta)
        return output

    def with_noise(self, noise: LocalNoise) -> Prepared:
        """The same with other local noise."""
        return self._replace(zeta=noise.zeta)


class OfPrepared(NamedTuple):
    """Gradients of what is in ``Prepared``."""

    weight: Tensor
    bias: Tensor
    variance: Tensor | None = None


LayerPullback = Callable[[OfPrepared], list[Cotangent]]
"""Takes them to what the weights were made of."""


class Flipped(NamedTuple):
    """A layer's weights under Flipout."""

    mean: Prepared
    deviation: Tensor  # (G, out, in) σ ε
    sign_in: Tensor  # (G, R, in)
    sign_out: Tensor  # (G, R, out)

    def times(self, x: Tensor) -> Tensor:
        """Rows x (G, R, in) through the weights: (G, R, out)."""
        flipped = torch.bmm(x * self.sign_in, self.deviation.mT)
        return torch.addcmul(self.mean.times(x), flipped, self.sign_out)


class TaskLinear(nn.Module, ABC):
    """A linear layer whose weights may depend on the task.

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
    def reset_parameters(self, gain: float, generator: torch.Generator | None = None) -> None:
        """Draw initial weights (orthogonal, scaled by gain); biases start at 0."""

    @abstractmethod
    def prepare(self, group_task: Tensor, noise: Noise = None) -> Any:
        """The weights of the groups whose tasks are group_task (G,), ascending and each task once at most.

        Returns:
            ``Prepared``, or another tuple of tensors with a method ``times``.
        """

    def compute(self, prepared: Any, x: Tensor) -> Tensor:
        """Rows x (G, R, in) through their groups' weights: (G, R, out)."""
        return prepared.times(x)  # type: ignore[no-any-return]

    def prepare_with_pullback(self, group_task: Tensor, noise: Noise = None) -> tuple[Any, LayerPullback]:
        """``prepare``, and its pullback to the parameters where it gives ``Prepared``; autograd's, or one by hand."""
        with torch.enable_grad():
            prepared = self.prepare(group_task, noise)

        def pullback(of_prepared: OfPrepared) -> list[Cotangent]:
            pairs = zip(prepared, of_prepared, strict=False)
            return [Cotangent(tensor, gradient) for tensor, gradient in pairs if gradient is not None]

        return prepared, pullback

    def forward(self, x: Tensor, task: Tensor, noise: Noise = None) -> Tensor:
        """Rows of any mix of tasks.

        Args:
            x: (rows, in).
            task: (rows,) integers in [0, M).
            noise: (M, out, in) standard normal weight noise, one draw per task; ``LocalNoise`` or ``FlipoutNoise`` with
                (rows, …) in place of (G, R, …); None for the posterior mean. Deterministic layers ignore it.

        Returns:
            (rows, out).
        """
        groups = TaskGroups.from_rows(task, self.num_tasks)
        if isinstance(noise, LocalNoise):
            noise = LocalNoise(groups.group(noise.zeta))
        elif isinstance(noise, FlipoutNoise):
            noise = FlipoutNoise(noise.eps, groups.group(noise.sign_in), groups.group(noise.sign_out))
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

    @property
    def noise_sizes(self) -> tuple[int, int] | None:
        """Lengths of a row's noise, at inputs (Flipout) and at outputs; None for a deterministic layer."""
        return None

    def draw_local_noise(self, groups: int, rows: int, source: Normals) -> LocalNoise | None:
        """Local noise for (groups, rows) rows, or None for a deterministic layer."""
        if self.noise_sizes is None:
            return None
        shape = (groups, rows, self.noise_sizes[1])
        if isinstance(source, NormalTable):
            return LocalNoise(source.cut(shape))
        like = next(self.parameters())
        return LocalNoise(normal(shape, source, like.dtype).to(like.device))

    def draw_flipout_noise(
        self, groups: int, rows: int, weights: torch.Generator, generator: np.random.Generator
    ) -> FlipoutNoise | None:
        """One draw of the weights for each task and signs for (groups, rows) rows; None for a deterministic layer."""
        eps = self.draw_weight_noise(weights)
        if eps is None or self.noise_sizes is None:
            return None
        sides = (signs((groups, rows, size), generator, eps.dtype).to(eps.device) for size in self.noise_sizes)
        return FlipoutNoise(eps, *sides)

    def gauged(self) -> tuple[Tensor, Tensor] | None:
        """θ̄ (out, in) and μ̃ (M, out, in) in the gauge where μ̃ averages to 0 over tasks; None without task weights."""
        return None

    def sigma(self) -> Tensor | None:
        """(M, out, in) posterior standard deviations; None for a deterministic layer."""
        return None

    def current_prior_std(self) -> Tensor | None:
        """() the prior's standard deviation σ_p where it changes during training, else None."""
        return None

    def prepare_shared(self, group_task: Tensor) -> Any:
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
