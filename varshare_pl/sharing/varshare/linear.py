"""VarShare's linear layer: shared weights plus a Gaussian residual per task.

    W_m = θ + φ_m,   φ_m ~ N(μ_m, σ_m²),   σ_m = exp(½ log_var_m),   prior N(0, σ_p²)

θ and the bias are deterministic and shared by all tasks; μ and log_var are stacked over tasks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from varshare_pl.networks.checks import check_positive
from varshare_pl.networks.gaussian import LocalNoise, deviations, kl_to_prior
from varshare_pl.networks.layer import (
    LinearWeights,
    NewTask,
    Noise,
    NoiseShape,
    VariationalLayer,
    of_tasks,
)
from varshare_pl.sharing.varshare.residual import ResidualLinear


class VarShareLinear(ResidualLinear, VariationalLayer):
    """``y = (θ + μ_m + σ_m ε) x + b``, a linear layer with a variational residual per task.

    Args:
        in_features: Size of an input row.
        out_features: Size of an output row.
        num_tasks: Number of tasks M.
        prior_scale: c in σ_p = c / √in_features.
        initial_sigma: σ at the start, as a share of σ_p.
        task_bias: Whether tasks have biases of their own beside the shared one.

    Attributes:
        log_var: (M, out, in) residual log variances; the others are those of ``ResidualLinear``.
    """

    # A new task's μ is the mean of all, so that it starts at θ̄ = θ + mean μ and no other task's μ̃ changes.
    new_task: ClassVar[Mapping[str, NewTask]] = {"log_var": "own"}

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_tasks: int,
        prior_scale: float = 0.1,
        initial_sigma: float = 0.5,
        task_bias: bool = False,
    ) -> None:
        super().__init__(in_features, out_features, num_tasks, prior_scale, task_bias)
        check_positive("initial_sigma", initial_sigma)
        self.initial_sigma = initial_sigma
        self.log_var = nn.Parameter(torch.zeros(num_tasks, out_features, in_features))

    def reset_parameters(self, gain: float, generator: torch.Generator) -> None:
        super().reset_parameters(gain, generator)
        nn.init.constant_(self.log_var, 2.0 * math.log(self.initial_sigma * self.prior_std))

    def prepare(self, group_task: Tensor, noise: Noise = None) -> LinearWeights:
        mu, log_var, bias = of_tasks(self.mu, group_task), of_tasks(self.log_var, group_task), self._bias(group_task)
        if isinstance(noise, LocalNoise):
            return LinearWeights(self.theta + mu, bias, log_var.exp(), noise.zeta)
        if noise is not None:
            return LinearWeights(self.theta + mu + deviations(log_var, of_tasks(noise, group_task)), bias)
        return LinearWeights(self.theta + mu, bias)

    def kl(self) -> Tensor:
        return kl_to_prior(self.mu, self.log_var, self.prior_std)

    @property
    def noise_shape(self) -> NoiseShape:
        return NoiseShape(tuple(self.mu.shape), self.out_features)

    def sigma(self) -> Tensor:
        return torch.exp(0.5 * self.log_var)

    def log_var_parameters(self) -> list[nn.Parameter]:
        return [self.log_var]
