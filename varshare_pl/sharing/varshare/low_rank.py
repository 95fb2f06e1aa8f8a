"""VarShare's layer with residuals of low rank, for fewer weights per task.

    W_m = θ + B_m A_m,   A_m ~ N(Ā_m, σ_A²) of shape (r, in),   B_m ~ N(B̄_m, σ_B²) of shape (out, r)

The form of the residual is that of LoRA (Hu et al. 2021, arXiv 2106.09685). All entries of both factors are
independent, under the posterior and under the prior N(0, s²) with s = √(σ_p / √r): an entry of B A, a sum of r
products, then has the prior standard deviation √(r s⁴) = σ_p. The KL is the sum of the factors'.

φ = B A is not Gaussian, but a row sees two Gaussian layers, h = A x and y = θ x + B h + b. So local noise
is drawn factor by factor, and gives each row exactly the distribution of (θ + B A) x + b.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from jsonargparse.typing import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from varshare_pl.networks.checks import check_count, check_positive
from varshare_pl.networks.gaussian import LocalNoise, deviations, kl_to_prior
from varshare_pl.networks.layer import (
    LayerSpec,
    LinearWeights,
    NewTask,
    Noise,
    NoiseShape,
    VariationalLayer,
    of_tasks,
)
from varshare_pl.sharing.varshare.layer_choice import Layers
from varshare_pl.sharing.varshare.method import INITIAL_SIGMA, PRIOR_SCALE, ResidualMethod
from varshare_pl.sharing.varshare.residual import SharedWithResiduals


class FactoredWeights(NamedTuple):
    """The layer's weights under local noise."""

    theta: Tensor  # (out, in)
    first: LinearWeights  # A
    second: LinearWeights  # B, with the layer's bias

    def apply(self, x: Tensor) -> Tensor:
        """Rows x (G, R, in) through the weights: (G, R, out)."""
        return torch.matmul(x, self.theta.mT) + self.second.apply(self.first.apply(x))

    def with_noise(self, noise: LocalNoise) -> FactoredWeights:
        """The same with other local noise."""
        of_first, of_second = noise.zeta.tensor_split([self.first.weight.shape[-2]], -1)
        return FactoredWeights(self.theta, self.first._replace(zeta=of_first), self.second._replace(zeta=of_second))


class LowRankLinear(SharedWithResiduals, VariationalLayer):
    """``y = (θ + B_m A_m) x + b + b_m`` with variational factors.

    Args:
        in_features: Size of an input row.
        out_features: Size of an output row.
        num_tasks: Number of tasks M.
        prior_scale: c in σ_p = c / √in_features.
        initial_sigma: σ of both factors at the start, as a share of their prior's s.
        task_bias: Whether tasks have biases of their own beside the shared one.
        rank: r, at most; a layer with fewer inputs or outputs takes as many as it has.

    Attributes:
        mu_a: (M, r, in) means of A; drawn from the prior at the start: where both factors are 0, neither learns.
        mu_b: (M, out, r) means of B, 0 at the start, so that all tasks start with one net.
        log_var_a: (M, r, in) log variances of A.
        log_var_b: (M, out, r) log variances of B.
    """

    # A new task starts at θ: θ̄ is out of reach, since a mean of products has no low rank.
    new_task: ClassVar[Mapping[str, NewTask]] = {"mu_a": "own", "mu_b": "zero", "log_var_a": "own", "log_var_b": "own"}

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_tasks: int,
        prior_scale: float = 0.1,
        initial_sigma: float = 0.5,
        task_bias: bool = False,
        rank: int = 4,
    ) -> None:
        super().__init__(in_features, out_features, num_tasks, prior_scale, task_bias)
        check_positive("initial_sigma", initial_sigma)
        check_count("rank", rank)
        self.initial_sigma = initial_sigma
        self.rank = min(rank, in_features, out_features)
        self.mu_a, self.log_var_a, self.mu_b, self.log_var_b = (
            nn.Parameter(torch.zeros(num_tasks, *shape))
            for shape in ((self.rank, in_features), (out_features, self.rank))
            for _ in range(2)
        )

    @property
    def factor_std(self) -> float:
        """s, the prior's standard deviation of both factors."""
        return math.sqrt(self.prior_std / math.sqrt(self.rank))

    def reset_parameters(self, gain: float, generator: torch.Generator) -> None:
        super().reset_parameters(gain, generator)
        nn.init.normal_(self.mu_a, std=self.factor_std, generator=generator)
        nn.init.zeros_(self.mu_b)
        for log_var in self.log_var_parameters():
            nn.init.constant_(log_var, 2.0 * math.log(self.initial_sigma * self.factor_std))

    def residuals(self) -> Tensor:
        return torch.bmm(self.mu_b, self.mu_a)

    def prepare(self, group_task: Tensor, noise: Noise = None) -> LinearWeights | FactoredWeights:
        a, log_var_a, b, log_var_b = (
            of_tasks(p, group_task) for p in (self.mu_a, self.log_var_a, self.mu_b, self.log_var_b)
        )
        bias = self._bias(group_task)
        if isinstance(noise, LocalNoise):
            of_a, of_b = noise.zeta.tensor_split([self.rank], -1)
            no_bias = self.bias.new_zeros(self.rank)
            local = LinearWeights(a, no_bias, log_var_a.exp(), of_a), LinearWeights(b, bias, log_var_b.exp(), of_b)
            return FactoredWeights(self.theta, *local)
        if noise is None:
            return LinearWeights(self.theta + torch.bmm(b, a), bias)
        eps_a, eps_b = of_tasks(noise, group_task).tensor_split([self.in_features], -1)
        moved_a, moved_b = deviations(log_var_a, eps_a), deviations(log_var_b, eps_b.mT)
        return LinearWeights(self.theta + torch.bmm(b + moved_b, a + moved_a), bias)

    @property
    def num_variational(self) -> int:
        return self.rank * (self.in_features + self.out_features)

    @property
    def noise_shape(self) -> NoiseShape:
        """Of A, and of B transposed, side by side."""
        both = self.in_features + self.out_features
        return NoiseShape((self.num_tasks, self.rank, both), self.rank + self.out_features)

    def kl(self) -> Tensor:
        """(M,) KL to the prior of both factors of each task, in nats."""
        std = self.factor_std
        return kl_to_prior(self.mu_a, self.log_var_a, std) + kl_to_prior(self.mu_b, self.log_var_b, std)

    def sigma(self) -> Tensor:
        """(M, out, in) standard deviations of the products' entries, exact for independent factors."""
        var_a, var_b = self.log_var_a.exp(), self.log_var_b.exp()
        # Var(b a) = σ_b² (ā² + σ_a²) + b̄² σ_a², and variances of the products add up over the rank.
        return (torch.bmm(var_b, self.mu_a.square() + var_a) + torch.bmm(self.mu_b.square(), var_a)).sqrt()

    def log_var_parameters(self) -> list[nn.Parameter]:
        return [self.log_var_a, self.log_var_b]

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rank={self.rank}"


class VarShareLowRank(ResidualMethod):
    """VarShare with residuals that are products of two variational factors, for fewer weights per task.

    Args:
        rank: Of the residuals, or the layer's narrower side if that is less.
        prior_scale: c in the prior's standard deviation σ_p = c / √fan_in of a residual's entries.
        initial_sigma: The factors' σ at the start, as a share of that of their prior.
        layers: Which layers have residuals: "all", "last K", or a list of names (layer_1, …, head) and of indices (0 is
            the first, -1 the head); the others are shared.
        task_bias: Whether the layers with residuals also have a bias for each task, without noise or penalty.
        task_embedding: Numbers in a learned embedding of the task that joins the observation at the input; 0: none.
    """

    name: ClassVar[str] = "varshare_low_rank"

    def __init__(
        self,
        rank: PositiveInt = 4,
        prior_scale: float = PRIOR_SCALE,
        initial_sigma: float = INITIAL_SIGMA,
        layers: Layers = "all",
        task_bias: bool = False,
        task_embedding: NonNegativeInt = 0,
    ) -> None:
        super().__init__(prior_scale, layers, task_bias, task_embedding=task_embedding)
        self.rank = rank
        self.initial_sigma = initial_sigma

    def make_residual_layer(self, spec: LayerSpec) -> LowRankLinear:
        sizes = spec.in_features, spec.out_features, spec.num_tasks
        return LowRankLinear(*sizes, self.prior_scale, self.initial_sigma, self.task_bias, self.rank)
