"""Nash-MTL by torchjd, with its state kept per task."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from jsonargparse.typing import NonNegativeFloat, PositiveInt
from torch import Tensor

from varshare_pl.combiners.base import CombinerSpec, GradientCombiner, GradientRule, TaskGradients
from varshare_pl.combiners.library import load


class NashMTL(GradientCombiner):
    """Σ α_m g_m with α > 0 that solves GGᵀ α = 1 / α, rows g_m in G: the Nash bargaining solution.

    A. Navon et al., Multi-Task Learning as a Bargaining Game, 2022, arXiv 2202.01017. The length of the sum is that of
    the solution, cut to max_norm, and says nothing of the length of the g_m. Where the solver finds none, as it does
    where the sum of the g_m points against one of them, α stays as it was, 1 at the start.

    Args:
        max_norm: Of the sum; 0: not cut.
        optim_niter: Iterations of the solver.
    """

    name: ClassVar[str] = "nash_mtl"

    def __init__(self, max_norm: NonNegativeFloat = 1.0, optim_niter: PositiveInt = 20) -> None:
        self.max_norm, self.optim_niter = max_norm, optim_niter

    def make(self, spec: CombinerSpec) -> _Bargaining:
        aggregator = load("aggregation", "cvxpy", "ecos").NashMTL
        return _Bargaining(lambda tasks: aggregator(tasks, self.max_norm, 1, self.optim_niter), spec.num_tasks)


class _Bargaining(GradientRule):
    """Each task's α, where the solver starts, is kept here; torchjd's object solves for a fixed number of tasks."""

    def __init__(self, make: Callable[[int], Any], num_tasks: int) -> None:
        self._make = make
        self._solvers: dict[int, Any] = {}
        self._alpha = torch.ones(num_tasks, dtype=torch.float64)

    def combine(self, given: TaskGradients) -> Tensor:
        count = len(given.tasks)
        if not bool(given.gradients.any()):
            return torch.zeros_like(given.gradients[0])
        if count not in self._solvers:
            self._solvers[count] = self._make(count)
        solver = self._solvers[count]
        solver.weighting.prvs_alpha = self._alpha[given.tasks].numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where there is no solution, several
            combined: Tensor = solver(given.gradients)
        self._alpha[given.tasks] = torch.as_tensor(solver.weighting.prvs_alpha, dtype=torch.float64)
        return combined

    def state(self) -> dict[str, Any]:
        return {"alpha": self._alpha.clone()}

    def load_state(self, state: dict[str, Any]) -> None:
        self._alpha = state["alpha"].clone()
