"""VarShare's linear layer: shared weights plus a Gaussian residual per task.

    W_m = θ + φ_m,   φ_m ~ N(μ_m, σ_m²),   σ_m = exp(½ log_var_m),   prior N(0, σ_p²)

θ and the bias are deterministic and shared by all tasks; μ and log_var are stacked over tasks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from varshare_pl.gradients import Cotangent
from varshare_pl.sharing.base import (
    Flipped,
    LayerPullback,
    NewTask,
    Noise,
    OfPrepared,
    Prepared,
    of_tasks,
)
from varshare_pl.sharing.checks import check_positive
from varshare_pl.sharing.elementwise import exp
from varshare_pl.sharing.gaussian import (
    FlipoutNoise,
    LocalNoise,
    deviations,
    kl_to_prior,
    sample,
    sample_and_noise,
)
from varshare_pl.sharing.residual import ResidualLinear


class VarShareLinear(ResidualLinear):
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
        self.log_var = nn.Parameter(torch.empty(num_tasks, out_features, in_features))
        self._reset_log_var()

    def reset_parameters(self, gain: float, generator: torch.Generator | None = None) -> None:
        super().reset_parameters(gain, generator)
        self._reset_log_var()

    @torch.no_grad()
    def _reset_log_var(self) -> None:
        self.log_var.fill_(2.0 * math.log(self.initial_sigma * self.prior_std))

    def prepare(self, group_task: Tensor, noise: Noise = None) -> Prepared | Flipped:
        mu, log_var, bias = of_tasks(self.mu, group_task), of_tasks(self.log_var, group_task), self._bias(group_task)
        if isinstance(noise, LocalNoise):
            return Prepared(self.theta + mu, bias, log_var.exp(), noise.zeta)
        if isinstance(noise, FlipoutNoise):
            deviation = deviations(log_var, of_tasks(noise.eps, group_task))
            return Flipped(Prepared(self.theta + mu, bias), deviation, noise.sign_in, noise.sign_out)
        if noise is not None:
            return Prepared(sample(self.theta, mu, log_var, of_tasks(noise, group_task)), bias)
        return Prepared(self.theta + mu, bias)

    def kl(self) -> Tensor:
        return kl_to_prior(self.mu, self.log_var, self.prior_std)

    def prepare_with_pullback(self, group_task: Tensor, noise: Noise = None) -> tuple[Any, LayerPullback]:
        overridden = type(self).prepare is not VarShareLinear.prepare
        if overridden or isinstance(noise, FlipoutNoise) or len(group_task) < self.num_tasks:
            return super().prepare_with_pullback(group_task, noise)
        with torch.enable_grad():
            bias = self._bias(group_task)
        theta, mu, log_var = self.theta.detach(), self.mu.detach(), self.log_var.detach()
        variance = scaled = zeta = None
        if isinstance(noise, LocalNoise):
            weight, variance, zeta = theta + mu, exp(log_var), noise.zeta
        elif noise is not None:
            weight, scaled = sample_and_noise(theta, mu, log_var, noise)
        else:
            weight = theta + mu

        def pullback(of: OfPrepared) -> list[Cotangent]:
            found = [Cotangent(self.theta, of.weight.sum(0)), Cotangent(self.mu, of.weight), Cotangent(bias, of.bias)]
            if variance is not None and of.variance is not None:
                found.append(Cotangent(self.log_var, variance * of.variance))
            if scaled is not None:
                found.append(Cotangent(self.log_var, scaled * of.weight, 0.5))
            return found

        return Prepared(weight, bias.detach(), variance, zeta), pullback

    def draw_weight_noise(self, generator: torch.Generator) -> Tensor:
        return torch.randn(self.mu.shape, generator=generator, dtype=self.mu.dtype).to(self.mu.device)

    @property
    def noise_sizes(self) -> tuple[int, int]:
        return self.in_features, self.out_features

    def sigma(self) -> Tensor:
        return torch.exp(0.5 * self.log_var)

    def log_var_parameters(self) -> list[nn.Parameter]:
        return [self.log_var]
