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

import torch

from varshare_pl.errors import ConfigError
from varshare_pl.sharing.base import LayerSpec, TaskLinear
from varshare_pl.sharing.checks import check_count
from varshare_pl.sharing.layer_choice import is_chosen
from varshare_pl.sharing.learned_prior import LearnedPriorLinear
from varshare_pl.sharing.low_rank import LowRankLinear
from varshare_pl.sharing.method import SharingMethod
from varshare_pl.sharing.noise_controller import ControlledPriorLinear
from varshare_pl.sharing.residual import ResidualLinear
from varshare_pl.sharing.shared import SharedLinear
from varshare_pl.sharing.torso import TorsoSpec
from varshare_pl.sharing.varshare_linear import VarShareLinear
from varshare_pl.sharing.varshare_torso import EmbeddedVarShareTorso, VarShareTorso

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
        noise_controller: Whether σ_p is moved every 20 rollouts so that the median σ stays between 0.05 and 0.2 of the
            median shared weight, in actor and critic apart.
        absorption: Share α of what all residuals of a layer have in common that moves into the shared weights after
            each update; no task's function changes.
        task_embedding: Numbers in a learned embedding of the task that joins the observation at the input; 0: none.
        rank: Residuals as products of two variational factors of this rank, or of the layer's narrower side if that is
            less; null: whole matrices. initial_sigma is then a share of the factors' prior.
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
        noise_controller: bool = False,
        absorption: float = 0.0,
        task_embedding: int = 0,
        rank: int | None = None,
    ) -> None:
        self.prior_scale = prior_scale
        self.initial_sigma = initial_sigma
        self.layers = layers
        self.task_bias = task_bias
        self.deterministic = deterministic
        self.learned_prior = learned_prior
        self.hyperprior = hyperprior
        self.noise_controller = noise_controller
        self.absorption = absorption
        self.task_embedding = task_embedding
        self.rank = rank

    def make_torso(self, spec: TorsoSpec, generator: torch.Generator) -> VarShareTorso:
        self._check()
        options = self.absorption, self.noise_controller
        if self.task_embedding:
            return EmbeddedVarShareTorso(self.make_layer, spec, generator, self.task_embedding, *options)
        return VarShareTorso(self.make_layer, spec, generator, *options)

    def make_layer(self, spec: LayerSpec) -> TaskLinear:
        self._check()
        sizes = spec.in_features, spec.out_features, spec.num_tasks
        if not is_chosen(self.layers, spec):
            return SharedLinear(*sizes)
        if self.deterministic:
            return ResidualLinear(*sizes, self.prior_scale, self.task_bias)
        variational = *sizes, self.prior_scale, self.initial_sigma, self.task_bias
        if self.rank is not None:
            return LowRankLinear(*variational, self.rank)
        if self.noise_controller:
            return ControlledPriorLinear(*variational)
        if self.learned_prior:
            return LearnedPriorLinear(*variational, self.hyperprior)
        return VarShareLinear(*variational)

    def _check(self) -> None:
        """Raise ConfigError for values that are out of range, and for options that contradict each other."""
        if not 0.0 <= self.absorption <= 1.0:
            raise ConfigError(f"absorption: {self.absorption} is not allowed; a number from 0 to 1 is")
        if self.task_embedding < 0:
            raise ConfigError(f"task_embedding: {self.task_embedding} is not allowed; an integer of at least 0 is")
        if self.noise_controller and self.learned_prior:
            raise ConfigError("noise_controller: true is not allowed with learned_prior: true; one of them moves σ_p")
        if self.noise_controller and self.deterministic:
            raise ConfigError("noise_controller: true is not allowed with deterministic: true; there is no noise")
        if self.rank is not None:
            self._check_rank(self.rank)
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

    def _check_rank(self, rank: int) -> None:
        check_count("rank", rank)
        reasons = {
            "deterministic": (self.deterministic, "its factors have noise"),
            "learned_prior": (self.learned_prior, "its factors' priors stand still"),
            "noise_controller": (self.noise_controller, "its factors' priors stand still"),
            "absorption": (self.absorption, "a mean of products has no low rank"),
        }
        for option, (value, reason) in reasons.items():
            if value:
                text = str(value).lower()
                raise ConfigError(f"{option}: {text} is not allowed with rank: {rank}; {reason}")
