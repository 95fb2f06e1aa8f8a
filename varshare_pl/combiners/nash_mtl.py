"""Nash-MTL by torchjd, with its state kept per task."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from jsonargparse.typing import NonNegativeFloat, PositiveInt
from torch import Tensor

from varshare_pl.combiners.base import CombinerSpec, GradientCombiner, GradientRule, TaskGradients
from varshare_pl.combiners.library import at_unit_size, load


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
        # torchjd cuts before the gradients have their size again
        return _Bargaining(lambda tasks: aggregator(tasks, 0.0, 1, self.optim_niter), spec.num_tasks, self.max_norm)


class _Bargaining(GradientRule):
    """Each task's α, where the solver starts, is kept here; torchjd's object solves for a fixed number of tasks.

    Args:
        make: A solver for so many tasks.
        num_tasks: M.
        max_norm: Of the sum; 0: not cut.
    """

    def __init__(self, make: Callable[[int], Any], num_tasks: int, max_norm: float) -> None:
        self._make, self._max_norm = make, max_norm
        self._solvers: dict[int, Any] = {}
        self._alpha = torch.ones(num_tasks, dtype=torch.float64)

    def combine(self, given: TaskGradients) -> Tensor:
        unit, size = at_unit_size(given.gradients)
        if not bool(unit.any()):
            return torch.zeros_like(given.gradients[0])
        if len(given.tasks) == 1:  # torchjd's problem cannot be set up; GGᵀ at unit size is 1, and so is α
            combined = unit[0]
            self._alpha[given.tasks] = 1.0
        else:
            combined = self._solve(unit, given.tasks)
        combined = combined * size
        norm = torch.linalg.vector_norm(combined, dtype=torch.float64)
        return combined * (self._max_norm / norm) if 0 < self._max_norm < norm else combined

    def _solve(self, unit: Tensor, tasks: Tensor) -> Tensor:
        if len(tasks) not in self._solvers:
            self._solvers[len(tasks)] = self._make(len(tasks))
        solver = self._solvers[len(tasks)]
        solver.weighting.prvs_alpha = self._alpha[tasks].numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where there is no solution, several
            combined: Tensor = solver(unit)
        self._alpha[tasks] = torch.as_tensor(solver.weighting.prvs_alpha, dtype=torch.float64)
        return combined

    def state(self) -> dict[str, Any]:
        return {"alpha": self._alpha.clone()}

    def load_state(self, state: dict[str, Any]) -> None:
        self._alpha = state["alpha"].clone()
