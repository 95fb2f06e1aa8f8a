"""Combiners of gradients without state, all by torchjd. g_m is task m's gradient, ḡ their mean."""

from __future__ import annotations

from typing import ClassVar, Literal

from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt

from varshare_pl.combiners.base import CombinerSpec, GradientCombiner
from varshare_pl.combiners.library import Aggregated, load


class Mean(GradientCombiner):
    """ḡ: what plain training steps on, the long way round; for comparison."""

    name: ClassVar[str] = "mean"

    def make(self, spec: CombinerSpec) -> Aggregated:
        return Aggregated(load("aggregation").Mean())


class PCGrad(GradientCombiner):
    """Mean of the g_m, each freed from what points against the others, one after the other in random order.

    T. Yu et al., Gradient Surgery for Multi-Task Learning, 2020, arXiv 2001.06782. The paper sums; the mean keeps the
    scale of plain training, and with it the weight of the KL to the prior.
    """

    name: ClassVar[str] = "pcgrad"

    def make(self, spec: CombinerSpec) -> Aggregated:
        return Aggregated(load("aggregation").PCGrad(), sums=True)


class GradDrop(GradientCombiner):
    """Element by element only positive or only negative parts, by chance in proportion to their sizes; their mean.

    Z. Chen et al., Just Pick a Sign, 2020, arXiv 2010.06808. The paper sums.
    """

    name: ClassVar[str] = "graddrop"

    def make(self, spec: CombinerSpec) -> Aggregated:
        return Aggregated(load("aggregation").GradDrop(), sums=True)


class CAGrad(GradientCombiner):
    """The d within c ‖ḡ‖ of ḡ whose smallest product with a g_m is largest.

    B. Liu et al., Conflict-Averse Gradient Descent, 2021, arXiv 2110.14048.

    Args:
        c: Radius of the ball around ḡ as a share of ‖ḡ‖; 0 gives ḡ.
        norm_eps: Norms below this count as 0.
    """

    name: ClassVar[str] = "cagrad"

    def __init__(self, c: NonNegativeFloat = 0.5, norm_eps: PositiveFloat = 1e-4) -> None:
        self.c, self.norm_eps = c, norm_eps

    def make(self, spec: CombinerSpec) -> Aggregated:
        return Aggregated(load("aggregation", "cvxpy", "clarabel").CAGrad(self.c, self.norm_eps))


class MGDA(GradientCombiner):
    """The shortest vector in the convex hull of the g_m.

    J.-A. Désidéri, 2012, doi 10.1016/j.crma.2012.03.014, with the solver of O. Sener and V. Koltun, 2018,
    arXiv 1810.04650.

    Args:
        epsilon: The solver stops at steps below this.
        max_iters: Of the solver.
    """

    name: ClassVar[str] = "mgda"

    def __init__(self, epsilon: PositiveFloat = 1e-3, max_iters: PositiveInt = 100) -> None:
        self.epsilon, self.max_iters = epsilon, max_iters

    def make(self, spec: CombinerSpec) -> Aggregated:
        return Aggregated(load("aggregation").MGDA(self.epsilon, self.max_iters))


class IMTLG(GradientCombiner):
    """Σ w_m g_m, Σ w_m = 1, whose product with every g_m / ‖g_m‖ is the same; weights may be negative.

    L. Liu et al., Towards Impartial Multi-task Learning (IMTL-G), ICLR 2021.
    """

    name: ClassVar[str] = "imtl_g"

    def make(self, spec: CombinerSpec) -> Aggregated:
        return Aggregated(load("aggregation").IMTLG())


class AlignedMTL(GradientCombiner):
    """The mean of the g_m after all singular values of their matrix are made equal.

    D. Senushkin et al., Independent Component Alignment for Multi-Task Learning, CVPR 2023, arXiv 2305.19000.

    Args:
        scale_mode: To which of the singular values: the smallest ("min"), their median or root mean square.
    """

    name: ClassVar[str] = "aligned_mtl"

    def __init__(self, scale_mode: Literal["min", "median", "rmse"] = "min") -> None:
        self.scale_mode = scale_mode

    def make(self, spec: CombinerSpec) -> Aggregated:
        return Aggregated(load("aggregation").AlignedMTL(scale_mode=self.scale_mode))
