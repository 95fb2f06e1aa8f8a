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

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jsonargparse.typing import NonNegativeInt

from varshare_pl.errors import ConfigError
from varshare_pl.networks.layer import LayerSpec, TaskLinear
from varshare_pl.networks.method import SharingMethod
from varshare_pl.networks.network import NetworkSpec
from varshare_pl.sharing.shared import SharedLinear
from varshare_pl.sharing.varshare.layer_choice import Layers, is_chosen
from varshare_pl.sharing.varshare.linear import VarShareLinear
from varshare_pl.sharing.varshare.network import EmbeddedVarShareNetwork, PriorController, VarShareNetwork

PRIOR_SCALE = 0.1
INITIAL_SIGMA = 0.5


class ResidualMethod(SharingMethod, ABC):
    """What the methods with shared weights plus a residual per task have in common.

    Args:
        prior_scale: c in σ_p = c / √fan_in of a layer; a residual's mean μ costs ½ μ²/σ_p².
        layers: Which layers have residuals: "all", "last K", or a list of names (layer_1, …, head) and of indices (0 is
            the first, -1 the head); the others are shared.
        task_bias: Whether the layers with residuals also have a bias for each task, without penalty.
        absorption: Share α of what all residuals of a layer have in common that moves into the shared weights after
            each update; no task's function changes.
        task_embedding: Numbers in a learned embedding of the task that joins the observation at the input; 0: none.
    """

    def __init__(
        self,
        prior_scale: float = PRIOR_SCALE,
        layers: Layers = "all",
        task_bias: bool = False,
        absorption: float = 0.0,
        task_embedding: NonNegativeInt = 0,
    ) -> None:
        self.prior_scale = prior_scale
        self.layers = layers
        self.task_bias = task_bias
        self.absorption = absorption
        self.task_embedding = task_embedding

    @abstractmethod
    def make_residual_layer(self, spec: LayerSpec) -> TaskLinear:
        """A layer with residuals."""

    def make_controller(self) -> PriorController | None:
        """What moves the priors of a network; None: they stand still."""
        return None

    def make_layer(self, spec: LayerSpec) -> TaskLinear:
        if is_chosen(self.layers, spec):
            return self.make_residual_layer(spec)
        return SharedLinear(spec.in_features, spec.out_features, spec.num_tasks)

    def make_network(self, spec: NetworkSpec, generator: torch.Generator) -> VarShareNetwork:
        if not 0.0 <= self.absorption <= 1.0:
            raise ConfigError(f"absorption: {self.absorption} is not allowed; a number from 0 to 1 is")
        if self.task_embedding < 0:
            raise ConfigError(f"task_embedding: {self.task_embedding} is not allowed; an integer of at least 0 is")
        options = self.absorption, self.make_controller()
        if self.task_embedding:
            return EmbeddedVarShareNetwork(self.make_layer, spec, generator, self.task_embedding, *options)
        return VarShareNetwork(self.make_layer, spec, generator, *options)


class VarShare(ResidualMethod):
    """Shared weights plus a Gaussian residual per task in every linear layer, the last one included.

    Args:
        prior_scale: c in the prior's standard deviation σ_p = c / √fan_in of a layer. Caps the weight noise;
            together with kl_weight it sets the pull to share.
        initial_sigma: The residuals' σ at the start, as a share of σ_p.
        layers: Which layers have residuals: "all", "last K", or a list of names (layer_1, …, head) and of indices (0 is
            the first, -1 the head); the others are shared.
        task_bias: Whether these also have a bias for each task, without noise or penalty.
        absorption: Share α of what all residuals of a layer have in common that moves into the shared weights.
        task_embedding: Numbers in a learned embedding of the task at the input; 0: none.
    """

    name: ClassVar[str] = "varshare"

    def __init__(
        self,
        prior_scale: float = PRIOR_SCALE,
        initial_sigma: float = INITIAL_SIGMA,
        layers: Layers = "all",
        task_bias: bool = False,
        absorption: float = 0.0,
        task_embedding: NonNegativeInt = 0,
    ) -> None:
        super().__init__(prior_scale, layers, task_bias, absorption, task_embedding)
        self.initial_sigma = initial_sigma

    def make_residual_layer(self, spec: LayerSpec) -> VarShareLinear:
        sizes = spec.in_features, spec.out_features, spec.num_tasks
        return VarShareLinear(*sizes, self.prior_scale, self.initial_sigma, self.task_bias)
