"""VarShare with a prior that is learned too, one σ_p for each layer with residuals.

    KL_m = Σ over layers [ KL(q_m ‖ N(0, σ_p² I)) + λ P_l (log σ_p − log σ_0)² ],   σ_0 = c / √fan_in

σ_p starts at σ_0 and follows the gradient of the KL: large residuals widen it, which makes them cheaper, and what no
task uses narrows it. The hyperprior's λ holds it near σ_0; each of a layer's P_l weights adds its term, so that λ means
the same at every width. It is the empirical Bayes that C. Blundell et al., ICML 2015, arXiv 1505.05424, section 3.3,
warn of for the weights of one network.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jsonargparse.typing import NonNegativeInt
from torch import Tensor, nn

from varshare_pl.errors import ConfigError
from varshare_pl.networks.gaussian import kl_to_prior
from varshare_pl.networks.layer import LayerSpec
from varshare_pl.sharing.varshare.layer_choice import Layers
from varshare_pl.sharing.varshare.linear import VarShareLinear
from varshare_pl.sharing.varshare.method import INITIAL_SIGMA, PRIOR_SCALE, VarShare


class LearnedPriorLinear(VarShareLinear):
    """VarShare's layer whose log σ_p is learned by the gradient of the KL, held near its start σ_0 by a hyperprior.

    Args:
        in_features: Size of an input row.
        out_features: Size of an output row.
        num_tasks: Number of tasks M.
        prior_scale: c in σ_0 = c / √in_features.
        initial_sigma: σ at the start, as a share of σ_0.
        task_bias: Whether tasks have biases of their own.
        hyperprior: λ; each weight of the layer adds λ (log σ_p − log σ_0)² to the KL, so that λ means the same at every
            width.

    Attributes:
        prior_std: σ_0.
        log_prior_std: () log σ_p, one for the layer.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_tasks: int,
        prior_scale: float = 0.1,
        initial_sigma: float = 0.5,
        task_bias: bool = False,
        hyperprior: float = 1.0,
    ) -> None:
        super().__init__(in_features, out_features, num_tasks, prior_scale, initial_sigma, task_bias)
        if not (math.isfinite(hyperprior) and hyperprior >= 0):
            raise ConfigError(f"hyperprior: {hyperprior} is not allowed; a number of at least 0 is")
        self.hyperprior = hyperprior
        self.log_prior_std = nn.Parameter(torch.tensor(math.log(self.prior_std)))

    def reset_parameters(self, gain: float, generator: torch.Generator) -> None:
        super().reset_parameters(gain, generator)
        with torch.no_grad():
            self.log_prior_std.fill_(math.log(self.prior_std))

    def kl(self) -> Tensor:
        """(M,) KL to the prior of each task's weights, in nats, the hyperprior's term included."""
        moved = self.log_prior_std - math.log(self.prior_std)
        held = self.hyperprior * self.num_variational * moved.square()
        return kl_to_prior(self.mu, self.log_var, self.current_prior_std()) + held

    def current_prior_std(self) -> Tensor:
        return self.log_prior_std.exp()

    def log_var_parameters(self) -> list[nn.Parameter]:
        # log σ_p is a scale as they are, and its gradient is as small.
        return [*super().log_var_parameters(), self.log_prior_std]


class VarShareLearnedPrior(VarShare):
    """VarShare whose σ_p is learned, one for each layer with residuals.

    Args:
        prior_scale: c in σ_0 = c / √fan_in, where σ_p of a layer starts.
        initial_sigma: The residuals' σ at the start, as a share of σ_0.
        hyperprior: λ; each weight adds λ (log σ_p − log σ_0)² to the KL.
        layers: See varshare.
        task_bias: See varshare.
        absorption: See varshare.
        task_embedding: See varshare.
    """

    name: ClassVar[str] = "varshare_learned_prior"

    def __init__(
        self,
        prior_scale: float = PRIOR_SCALE,
        initial_sigma: float = INITIAL_SIGMA,
        hyperprior: float = 1.0,
        layers: Layers = "all",
        task_bias: bool = False,
        absorption: float = 0.0,
        task_embedding: NonNegativeInt = 0,
    ) -> None:
        super().__init__(prior_scale, initial_sigma, layers, task_bias, absorption, task_embedding)
        self.hyperprior = hyperprior

    def make_residual_layer(self, spec: LayerSpec) -> LearnedPriorLinear:
        sizes = spec.in_features, spec.out_features, spec.num_tasks
        return LearnedPriorLinear(*sizes, self.prior_scale, self.initial_sigma, self.task_bias, self.hyperprior)
