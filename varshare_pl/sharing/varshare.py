"""VarShare: shared weights plus a Gaussian residual per task, held to sharing by a KL penalty.

    W_m = θ + φ_m,   φ_m ~ N(μ_m, σ_m²),   σ_m = exp(½ log_var_m),   prior N(0, σ_p²)

θ and the bias are deterministic and shared by all tasks; μ and log_var are stacked over tasks. The KL is weighed by
``model.kl_weight``; see docs and README for the objective.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from varshare_pl.errors import ConfigError
from varshare_pl.random import normal
from varshare_pl.sharing.base import LayerSpec, Noise, Prepared, SharingMethod, TaskLinear, orthogonal
from varshare_pl.sharing.gaussian import LocalNoise, kl_to_prior, sample


class VarShareLinear(TaskLinear):
    """``y = (θ + μ_m + σ_m ε) x + b``, a linear layer with a variational residual per task.

    Args:
        in_features: Size of an input row.
        out_features: Size of an output row.
        num_tasks: Number of tasks M.
        prior_scale: c in σ_p = c / √in_features. The noise at the output then has about the same size at every width;
            with a unit prior and 64 inputs it would be 14 times the signal.
        initial_sigma: σ at the start, as a share of σ_p.

    Attributes:
        theta: (out, in) shared weights θ.
        mu: (M, out, in) residual means, 0 at the start.
        log_var: (M, out, in) residual log variances.
        bias: (out,) shared bias.
        prior_std: σ_p.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_tasks: int,
        prior_scale: float = 0.1,
        initial_sigma: float = 0.5,
    ) -> None:
        super().__init__(in_features, out_features, num_tasks)
        for name, value in (("prior_scale", prior_scale), ("initial_sigma", initial_sigma)):
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name}: {value} is not allowed; a positive number is")
        self.prior_std = prior_scale / math.sqrt(in_features)
        self.initial_sigma = initial_sigma
        self.theta = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features))
        self.mu = nn.Parameter(torch.empty(num_tasks, out_features, in_features))
        self.log_var = nn.Parameter(torch.empty(num_tasks, out_features, in_features))
        self.reset_parameters(1.0)

    def reset_parameters(self, gain: float, generator: torch.Generator | None = None) -> None:
        orthogonal(self.theta, gain, generator)
        with torch.no_grad():
            self.bias.zero_()
            self.mu.zero_()
            self.log_var.fill_(2.0 * math.log(self.initial_sigma * self.prior_std))

    def prepare(self, group_task: Tensor, noise: Noise = None) -> Prepared:
        mu, log_var = self._of(group_task, self.mu), self._of(group_task, self.log_var)
        if isinstance(noise, LocalNoise):
            return Prepared(self.theta + mu, self.bias, log_var.exp(), noise.zeta)
        if noise is not None:
            return Prepared(sample(self.theta, mu, log_var, self._of(group_task, noise)), self.bias)
        return Prepared(self.theta + mu, self.bias)

    def _of(self, group_task: Tensor, stacked: Tensor) -> Tensor:
        # A batch with every task in it, the usual one, needs no copy.
        return stacked if len(group_task) == self.num_tasks else stacked[group_task]

    def prepare_shared(self, group_task: Tensor) -> Prepared:
        shared = (self.theta + self.mu.mean(0)).expand(len(group_task), -1, -1)
        return Prepared(shared, self.bias)

    @property
    def num_variational(self) -> int:
        return self.theta.numel()

    def kl(self) -> Tensor:
        return kl_to_prior(self.mu, self.log_var, self.prior_std)

    def draw_weight_noise(self, generator: torch.Generator) -> Tensor:
        return torch.randn(self.mu.shape, generator=generator, dtype=self.mu.dtype).to(self.mu.device)

    def draw_local_noise(self, groups: int, rows: int, generator: np.random.Generator) -> LocalNoise:
        zeta = normal((groups, rows, self.out_features), generator, self.mu.dtype)
        return LocalNoise(zeta.to(self.mu.device))

    def gauged(self) -> tuple[Tensor, Tensor]:
        mean = self.mu.mean(0)
        return self.theta + mean, self.mu - mean

    def sigma(self) -> Tensor:
        return torch.exp(0.5 * self.log_var)

    def log_var_parameters(self) -> list[nn.Parameter]:
        return [self.log_var]

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, prior_std={self.prior_std:.4g}"


class VarShare(SharingMethod):
    """Shared weights plus a Gaussian residual per task in every linear layer, heads included.

    Args:
        prior_scale: c in the prior's standard deviation σ_p = c / √fan_in of a layer. Caps the weight noise;
            together with kl_weight it sets the pull to share.
        initial_sigma: The residuals' σ at the start, as a share of σ_p.
    """

    name: ClassVar[str] = "varshare"

    def __init__(self, prior_scale: float = 0.1, initial_sigma: float = 0.5) -> None:
        self.prior_scale = prior_scale
        self.initial_sigma = initial_sigma

    def make_layer(self, spec: LayerSpec) -> VarShareLinear:
        return VarShareLinear(spec.in_features, spec.out_features, spec.num_tasks, self.prior_scale, self.initial_sigma)
