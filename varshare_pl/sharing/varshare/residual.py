"""A residual per task on shared weights: what the layers of VarShare have in common, and the one without noise."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from varshare_pl.networks.checks import check_positive
from varshare_pl.networks.gaussian import mean_to_prior
from varshare_pl.networks.initial import orthogonal
from varshare_pl.networks.layer import LinearWeights, Noise, PenalisedLayer, TaskLinear, of_tasks


class SharedWithResiduals(TaskLinear, PenalisedLayer):
    """``y = (θ + φ_m) x + b + b_m``; a subclass says what φ_m is.

    Args:
        in_features: Size of an input row.
        out_features: Size of an output row.
        num_tasks: Number of tasks M.
        prior_scale: c in σ_p = c / √in_features. The noise at the output then has about the same size at every width;
            with a unit prior and 64 inputs it would be 14 times the signal.
        task_bias: Whether there are biases b_m.

    Attributes:
        theta: (out, in) shared weights θ.
        bias: (out,) shared bias.
        task_bias: (M, out) biases of the tasks beside the shared one, 0 at the start; or None.
        prior_std: σ_p.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_tasks: int,
        prior_scale: float = 0.1,
        task_bias: bool = False,
    ) -> None:
        super().__init__(in_features, out_features, num_tasks)
        check_positive("prior_scale", prior_scale)
        self.prior_std = prior_scale / math.sqrt(in_features)
        self.theta = nn.Parameter(torch.zeros(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.task_bias = nn.Parameter(torch.zeros(num_tasks, out_features)) if task_bias else None

    def reset_parameters(self, gain: float, generator: torch.Generator) -> None:
        orthogonal(self.theta, gain, generator)
        with torch.no_grad():
            self.bias.zero_()
            if self.task_bias is not None:
                self.task_bias.zero_()

    @abstractmethod
    def residuals(self) -> Tensor:
        """(M, out, in) the means of the φ_m."""

    def _bias(self, group_task: Tensor) -> Tensor:
        if self.task_bias is None:
            return self.bias
        return (self.bias + of_tasks(self.task_bias, group_task)).unsqueeze(1)

    def prepare_shared(self, group_task: Tensor) -> LinearWeights:
        shared = (self.theta + self.residuals().mean(0)).expand(len(group_task), -1, -1)
        return LinearWeights(shared, self.bias if self.task_bias is None else self.bias + self.task_bias.mean(0))

    def shared_and_residual(self) -> tuple[Tensor, Tensor]:
        residuals = self.residuals()
        mean = residuals.mean(0)
        return self.theta + mean, residuals - mean

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, prior_std={self.prior_std:.4g}"


class ResidualLinear(SharedWithResiduals):
    """``y = (θ + μ_m) x + b + b_m``: VarShare with σ = 0, which leaves ½ μ²/σ_p² of the KL; arguments as above.

    Attributes:
        mu: (M, out, in) residual means, 0 at the start.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_tasks: int,
        prior_scale: float = 0.1,
        task_bias: bool = False,
    ) -> None:
        super().__init__(in_features, out_features, num_tasks, prior_scale, task_bias)
        self.mu = nn.Parameter(torch.zeros(num_tasks, out_features, in_features))

    def reset_parameters(self, gain: float, generator: torch.Generator) -> None:
        super().reset_parameters(gain, generator)
        nn.init.zeros_(self.mu)

    def residuals(self) -> Tensor:
        return self.mu

    @torch.no_grad()
    def absorb(self, share: float) -> None:
        """Move this share of the residuals' mean over tasks into θ: no task's weights change."""
        common = self.mu.mean(0).mul_(share)
        self.theta.add_(common)
        self.mu.sub_(common)

    def prepare(self, group_task: Tensor, noise: Noise = None) -> Any:
        return LinearWeights(self.theta + of_tasks(self.mu, group_task), self._bias(group_task))

    @property
    def num_variational(self) -> int:
        return self.theta.numel()

    def kl(self) -> Tensor:
        return mean_to_prior(self.mu, self.prior_std)
