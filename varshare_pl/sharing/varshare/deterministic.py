"""VarShare without noise: the ablation σ = 0, which leaves ½ μ²/σ_p² of the KL, an L2 penalty on the residuals.

    W_m = θ + μ_m,   L = mean over tasks of [ L_PPO,m + (β̃ / P) · Σ ½ μ_m²/σ_p² ]

What it does as well as VarShare, the variances of VarShare do not explain. Its form is that of the regularised
multi-task learning of T. Evgeniou and M. Pontil, KDD 2004, with a network in place of a linear model.
"""

from __future__ import annotations

from typing import ClassVar

from varshare_pl.networks.layer import LayerSpec
from varshare_pl.sharing.varshare.layer_choice import Layers
from varshare_pl.sharing.varshare.method import PRIOR_SCALE, ResidualMethod
from varshare_pl.sharing.varshare.residual import ResidualLinear


class VarShareDeterministic(ResidualMethod):
    """VarShare without noise: shared weights plus a residual per task with an L2 penalty.

    Args:
        prior_scale: c in σ_p = c / √fan_in of a layer; a residual costs ½ μ²/σ_p².
        layers: Which layers have residuals: "all", "last K", or a list of names (layer_1, …, head) and of indices (0 is
            the first, -1 the head); the others are shared.
        task_bias: Whether the layers with residuals also have a bias for each task, without penalty.
        absorption: Share α of what all residuals of a layer have in common that moves into the shared weights after
            each update; no task's function changes.
        task_embedding: Numbers in a learned embedding of the task that joins the observation at the input; 0: none.
    """

    name: ClassVar[str] = "varshare_deterministic"

    def __init__(
        self,
        prior_scale: float = PRIOR_SCALE,
        layers: Layers = "all",
        task_bias: bool = False,
        absorption: float = 0.0,
        task_embedding: int = 0,
    ) -> None:
        super().__init__(layers, task_bias, absorption, task_embedding)
        self.prior_scale = prior_scale

    def make_residual_layer(self, spec: LayerSpec) -> ResidualLinear:
        return ResidualLinear(spec.in_features, spec.out_features, spec.num_tasks, self.prior_scale, self.task_bias)
