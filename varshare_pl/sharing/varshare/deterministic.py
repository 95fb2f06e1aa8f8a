"""VarShare without noise: the ablation σ = 0, which leaves ½ μ²/σ_p² of the KL, an L2 penalty on the residuals.

    W_m = θ + μ_m,   L = mean over tasks of [ L_PPO,m + (β̃ / P) · Σ ½ μ_m²/σ_p² ]

What it does as well as VarShare, the variances of VarShare do not explain. Its form is that of the regularised
multi-task learning of T. Evgeniou and M. Pontil, KDD 2004, with networks in place of linear models, as in the joint
training of many tasks by Y. Teh et al., Distral, NeurIPS 2017, arXiv 1707.04175, where policies are held together in
place of weights.
"""

from __future__ import annotations

from typing import ClassVar

from varshare_pl.networks.layer import LayerSpec
from varshare_pl.sharing.varshare.method import ResidualMethod
from varshare_pl.sharing.varshare.residual import ResidualLinear


class VarShareDeterministic(ResidualMethod):
    """VarShare without noise: shared weights plus a residual per task with an L2 penalty."""

    name: ClassVar[str] = "varshare_deterministic"

    def make_residual_layer(self, spec: LayerSpec) -> ResidualLinear:
        return ResidualLinear(spec.in_features, spec.out_features, spec.num_tasks, self.prior_scale, self.task_bias)
