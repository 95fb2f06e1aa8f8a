"""GradNorm: task weights that are learned so that the tasks' gradients have the sizes they should.

    Z. Chen et al., GradNorm, 2018, arXiv 1711.02257, algorithm 1. With G_m = w_m ‖g_m‖ and Ḡ its mean over tasks, a
    gradient step is taken on w by

        Σ_m |G_m − Ḡ r_m^α|,   r_m = (L_m / L_m(0)) / mean over tasks of the same,

    the target Ḡ r_m^α held fixed; then w is scaled so that it sums to the number of tasks.

Deviations:
1. The norms are over all shared parameters of the network, not over its last shared layer.
2. w weighs the shared parameters' gradients; parameters of one task alone keep their own, of which Adam does not see
   the scale.
3. The actor's losses may be negative; ``actor_floor`` is subtracted from them first.
4. w is kept at 1e-3 or more, or a step too long would turn a task's gradient round.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jsonargparse.typing import NonNegativeFloat, PositiveFloat
from torch import Tensor

from varshare_pl.combiners.base import CombinerSpec, GradientCombiner, GradientRule, TaskGradients
from varshare_pl.combiners.positive import ACTOR_FLOOR, above_floor, floor_of
from varshare_pl.combiners.weights import LearnedWeights

SMALLEST = 1e-3
LARGEST = 1e15  # norm that a gradient counts with


class GradNorm(GradientCombiner):
    """Weights learned so that tasks that learn slowly have larger gradients.

    Z. Chen et al., GradNorm, 2018, arXiv 1711.02257.

    Args:
        alpha: How much; 0 makes all gradients of one size.
        lr: Learning rate of the weights, by Adam.
        actor_floor: Subtracted from the actor's losses, which must stay above it.
    """

    name: ClassVar[str] = "grad_norm"

    def __init__(
        self, alpha: NonNegativeFloat = 1.5, lr: PositiveFloat = 0.025, actor_floor: float = ACTOR_FLOOR
    ) -> None:
        self.alpha, self.lr, self.actor_floor = alpha, lr, actor_floor

    def make(self, spec: CombinerSpec) -> GradNormRule:
        return GradNormRule(spec.num_tasks, self.alpha, self.lr, floor_of(spec, self.actor_floor))


class GradNormRule(GradientRule):
    """GradNorm for one network.

    Args:
        num_tasks: M.
        alpha: See ``GradNorm``.
        lr: See ``GradNorm``.
        floor: Subtracted from losses.
    """

    def __init__(self, num_tasks: int, alpha: float, lr: float, floor: float) -> None:
        self._alpha, self._floor = alpha, floor
        self._learned = LearnedWeights(torch.ones(num_tasks), lr)
        self._first = torch.full((num_tasks,), torch.nan)  # L_m(0): of each task's first minibatch

    @torch.no_grad()
    def combine(self, given: TaskGradients) -> Tensor:
        tasks, losses = given.tasks, above_floor(given.losses, self._floor)
        self._first[tasks] = torch.where(self._first[tasks].isnan(), losses, self._first[tasks])
        weights = self._learned.values[tasks]
        combined = (weights @ given.gradients) / len(tasks)
        norms = torch.linalg.vector_norm(given.gradients, dim=1, dtype=torch.float64)
        norms = norms.clamp_max(LARGEST).to(given.gradients)  # Adam squares them
        ratio = losses / self._first[tasks]
        sizes = weights * norms
        target = sizes.mean() * (ratio / ratio.mean()) ** self._alpha
        gradient = torch.zeros_like(self._learned.values)
        gradient[tasks] = (sizes - target).sign() * norms
        self._learned.step(gradient)
        values = self._learned.values
        values.clamp_(min=SMALLEST).mul_(len(values) / values.sum())
        return combined

    def state(self) -> dict[str, Any]:
        return {"first": self._first.clone(), **self._learned.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self._first = state["first"].clone()
        self._learned.load_state(state)
