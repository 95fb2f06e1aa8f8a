"""One trunk for all tasks, and a head of its own for each task.

    h = f_L(… f_1(x)),   y = V_m h + c_m

The hidden layers f are shared; the last layer has weights V_m and a bias c_m for each task m. See R. Caruana, Multitask
Learning, Machine Learning 28, 1997, and in reinforcement learning the multi-task multi-head SAC of T. Yu et al.,
Meta-World, 2019, arXiv 1910.10897.

Deviations:
1. PPO in place of SAC: the critic is a state's value, one output a head, and there is no entropy temperature per task.
2. Actor and critic have trunks of their own, as every method here.
3. Each head is an orthogonal matrix drawn apart, with the initial scale of any other head here.
"""

from __future__ import annotations

from typing import ClassVar

from varshare_pl.networks.layer import LayerSpec, TaskLinear
from varshare_pl.networks.method import SharingMethod
from varshare_pl.sharing.independent import IndependentLinear
from varshare_pl.sharing.shared import SharedLinear


class MultiHead(SharingMethod):
    """A shared trunk with a head per task."""

    name: ClassVar[str] = "multi_head"

    def make_layer(self, spec: LayerSpec) -> TaskLinear:
        layer = IndependentLinear if spec.name == "head" else SharedLinear
        return layer(spec.in_features, spec.out_features, spec.num_tasks)
