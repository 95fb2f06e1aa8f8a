"""VarShare: shared weights plus a Gaussian residual per task, held to sharing by a KL penalty.

    W_m = θ + φ_m,   φ_m ~ q_m = N(μ_m, diag σ_m²),   p = N(0, σ_p² I),   σ_p = c / √fan_in,   y = W_m x + b
    L = mean over tasks of [ L_PPO,m + (β̃ / P) · KL(q_m ‖ p) ]

μ_m starts at 0, so all tasks start as one net. Sharing is free; a residual that leaves 0 costs KL, and so leaves it
only where that raises the task's return. The penalty also keeps σ_m near σ_p wherever the return does not mind the
noise. β̃ is ``model.kl_weight``; P is the number of variational weights of a task, so that β̃ means the same at every
width.

VarShare is this project's own method; its parts are older. Gaussian posteriors of weights, trained through samples,
are those of C. Blundell et al., Weight Uncertainty in Neural Networks, ICML 2015, arXiv 1505.05424; the critic's
noise is drawn at the layers' outputs by the local reparameterisation of D. Kingma et al., NeurIPS 2015, arXiv
1506.02557. What is different here:

1. Only what a task has of its own is random; what tasks share, θ and b, is deterministic.
2. The actor's noise is drawn once per rollout and kept through its update, so that PPO's ratio starts at 1.
3. The KL is scaled by β̃ / P, not by the number of samples: it is a price of specialising, not a bound on evidence.
4. Evaluation uses the posterior mean θ + μ_m.
"""

from __future__ import annotations

from typing import ClassVar

from varshare_pl.errors import ConfigError
from varshare_pl.sharing.base import LayerSpec, TaskLinear
from varshare_pl.sharing.layer_choice import is_chosen
from varshare_pl.sharing.learned_prior import LearnedPriorLinear
from varshare_pl.sharing.method import SharingMethod
from varshare_pl.sharing.residual import ResidualLinear
from varshare_pl.sharing.shared import SharedLinear
from varshare_pl.sharing.varshare_linear import VarShareLinear

INITIAL_SIGMA = 0.5
HYPERPRIOR = 1.0


class VarShare(SharingMethod):
    """Shared weights plus a Gaussian residual per task in every linear layer, heads included.

    Args:
        prior_scale: c in the prior's standard deviation σ_p = c / √fan_in of a layer. Caps the weight noise;
            together with kl_weight it sets the pull to share.
        initial_sigma: The residuals' σ at the start, as a share of σ_p.
        layers: Which layers have residuals: "all", "last K", or a list of names (layer_1, …, head) and of indices (0 is
            the first, -1 the head); the others are shared.
        task_bias: Whether the layers with residuals also have a bias for each task, without noise or penalty.
        deterministic: The ablation σ = 0: no noise and no variances; of the KL only ½ μ²/σ_p² is left.
        learned_prior: Whether σ_p is learned, one for each layer with residuals; it starts where prior_scale says.
        hyperprior: λ of learned_prior: each weight adds λ (log σ_p − log σ_0)² to the KL, with σ_0 the start.
    """

    name: ClassVar[str] = "varshare"

    def __init__(
        self,
        prior_scale: float = 0.1,
        initial_sigma: float = INITIAL_SIGMA,
        layers: list[int | str] | str = "all",
        task_bias: bool = False,
        deterministic: bool = False,
        learned_prior: bool = False,
        hyperprior: float = HYPERPRIOR,
    ) -> None:
        self.prior_scale = prior_scale
        self.initial_sigma = initial_sigma
        self.layers = layers
        self.task_bias = task_bias
        self.deterministic = deterministic
        self.learned_prior = learned_prior
        self.hyperprior = hyperprior

    def make_layer(self, spec: LayerSpec) -> TaskLinear:
        self._check()
        sizes = spec.in_features, spec.out_features, spec.num_tasks
        if not is_chosen(self.layers, spec):
            return SharedLinear(*sizes)
        if self.deterministic:
            return ResidualLinear(*sizes, self.prior_scale, self.task_bias)
        variational = *sizes, self.prior_scale, self.initial_sigma, self.task_bias
        if self.learned_prior:
            return LearnedPriorLinear(*variational, self.hyperprior)
        return VarShareLinear(*variational)

    def _check(self) -> None:
        """Raise ConfigError if options contradict each other."""
        if self.deterministic and self.learned_prior:
            raise ConfigError(
                "learned_prior: true is not allowed with deterministic: true; without σ nothing keeps σ_p from growing"
            )
        if self.deterministic and self.initial_sigma != INITIAL_SIGMA:
            raise ConfigError(
                f"initial_sigma: {self.initial_sigma} is not allowed with deterministic: true; there is no σ"
            )
        if self.hyperprior != HYPERPRIOR and not self.learned_prior:
            raise ConfigError(f"hyperprior: {self.hyperprior} is not allowed without learned_prior: true")
