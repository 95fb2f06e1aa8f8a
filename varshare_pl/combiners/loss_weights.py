"""Weighting schemes of the tasks' losses by torchjd. They take no gradient per task, so they cost next to nothing.

Each is a scalarisation S of the tasks' losses L (M,), and ∂S/∂L are the weights. It is given every task's loss: for
those without rows in a minibatch the last one known.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, ClassVar

import torch
from jsonargparse.typing import NonNegativeFloat, PositiveFloat
from torch import Tensor

from varshare_pl.combiners.base import CombinerSpec, GradientCombiner, LossRule
from varshare_pl.combiners.library import drawing, load
from varshare_pl.combiners.positive import ACTOR_FLOOR, above_floor, floor_of
from varshare_pl.combiners.weights import LearnedWeights


class RandomLoss(GradientCombiner):
    """w = M · softmax of normal draws, new at every step: random loss weighting.

    B. Lin et al., Reasonable Effectiveness of Random Weighting, 2022, arXiv 2111.10603.
    """

    name: ClassVar[str] = "random_loss"

    def make(self, spec: CombinerSpec) -> Scalarised:
        return Scalarised(load("scalarization").Random(), spec.num_tasks, factor=spec.num_tasks)


class DWA(GradientCombiner):
    """w = M · softmax(r / T), r_m = L_m of the last rollout / that of the one before: dynamic weight average.

    S. Liu et al., End-to-End Multi-Task Learning with Attention, CVPR 2019, arXiv 1803.10704.

    Args:
        temperature: T; larger: more equal weights.
        actor_floor: Subtracted from the actor's losses, which must stay above it.
    """

    name: ClassVar[str] = "dwa"

    def __init__(self, temperature: PositiveFloat = 2.0, actor_floor: float = ACTOR_FLOOR) -> None:
        self.temperature, self.actor_floor = temperature, actor_floor

    def make(self, spec: CombinerSpec) -> Scalarised:
        scalariser = load("scalarization").DWA(self.temperature)
        return _DWARule(scalariser, spec.num_tasks, floor_of(spec, self.actor_floor))


class Uncertainty(GradientCombiner):
    """w_m = exp(−s_m), s learned by the loss Σ exp(−s_m) L_m + s_m: uncertainty weighting.

    A. Kendall et al., 2018, arXiv 1705.07115, times 2, so that it starts as plain training; that is also IMTL-L (L. Liu
    et al., ICLR 2021), with the sign of s turned.

    Args:
        lr: Learning rate of s, by Adam.
        actor_floor: Subtracted from the actor's losses, which must stay above it.
    """

    name: ClassVar[str] = "uncertainty"

    def __init__(self, lr: PositiveFloat = 0.01, actor_floor: float = ACTOR_FLOOR) -> None:
        self.lr, self.actor_floor = lr, actor_floor

    def make(self, spec: CombinerSpec) -> Scalarised:
        scalariser = load("scalarization").UW(spec.num_tasks)
        floor = floor_of(spec, self.actor_floor)
        return _LearnedRule(scalariser, scalariser.log_var, self.lr, floor, factor=2.0)


class FAMO(GradientCombiner):
    """w_m = M · c z_m / L_m, z = softmax of what is learned so that all losses fall at one rate.

    B. Liu et al., FAMO, 2023, arXiv 2306.03792. After each step the losses are computed again on its minibatch.

    Args:
        lr: Learning rate of the logits of z, by Adam.
        weight_decay: Of the logits.
        actor_floor: Subtracted from the actor's losses, which must stay above it.
    """

    name: ClassVar[str] = "famo"

    def __init__(
        self,
        lr: PositiveFloat = 0.025,
        weight_decay: NonNegativeFloat = 1e-3,
        actor_floor: float = ACTOR_FLOOR,
    ) -> None:
        self.lr, self.weight_decay, self.actor_floor = lr, weight_decay, actor_floor

    def make(self, spec: CombinerSpec) -> Scalarised:
        scalariser = load("scalarization").FAMO(spec.num_tasks, None, self.lr, self.weight_decay)
        return _FAMORule(scalariser, spec.num_tasks, floor_of(spec, self.actor_floor), factor=spec.num_tasks)


class Scalarised(LossRule):
    """A scalariser of torchjd for one network.

    Args:
        scalariser: From (M,) to a number.
        num_tasks: M.
        floor: Subtracted from losses; None: they may be anything.
        factor: Of the weights, so that tasks alike weigh 1.
    """

    def __init__(
        self, scalariser: Callable[[Tensor], Tensor], num_tasks: int, floor: float | None = None, factor: float = 1.0
    ) -> None:
        self._scalariser: Any = scalariser
        self._floor, self._factor = floor, factor
        self._latest = torch.full((num_tasks,), torch.nan)

    def weights(self, losses: Tensor, present: Tensor, seed: int) -> Tensor:
        values = self._known(losses, present).requires_grad_()
        with torch.enable_grad(), drawing(seed):
            (weights,) = torch.autograd.grad(self._scalariser(values), values)
        return weights * self._factor

    def _known(self, losses: Tensor, present: Tensor) -> Tensor:
        """(M,) every task's loss above its floor: the last one of those without rows, a mean where there is none."""
        if self._floor is not None:
            losses = losses.clone()
            losses[present] = above_floor(losses[present], self._floor)
        self._latest = torch.where(present, losses, self._latest)
        return torch.where(self._latest.isnan(), losses[present].mean(), self._latest)

    def state(self) -> dict[str, Any]:
        return {"latest": self._latest.clone()}

    def load_state(self, state: dict[str, Any]) -> None:
        self._latest = state["latest"].clone()


class _LearnedRule(Scalarised):
    """Has a parameter that its own loss teaches."""

    def __init__(self, scalariser: Any, parameter: Tensor, lr: float, floor: float, factor: float = 1.0) -> None:
        super().__init__(scalariser, len(parameter), floor, factor)
        self._learned = LearnedWeights(parameter, lr)

    def weights(self, losses: Tensor, present: Tensor, seed: int) -> Tensor:
        weights = super().weights(losses, present, seed)
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(self._scalariser(self._known(losses, present)), self._learned.values)
        self._learned.step(gradient * present)
        return weights

    def state(self) -> dict[str, Any]:
        return super().state() | self._learned.state()

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self._learned.load_state(state)


class _DWARule(Scalarised):
    """Has sums over a rollout, for torchjd's epoch is ours."""

    _STATE = ("_loss_sum", "_n_batches", "_previous_averages")

    def end_update(self) -> None:
        self._scalariser.step()

    def state(self) -> dict[str, Any]:
        return super().state() | {name: getattr(self._scalariser, name) for name in self._STATE}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        for name in self._STATE:
            setattr(self._scalariser, name, state[name])


class _FAMORule(Scalarised):
    looks_again: ClassVar[bool] = True

    def look_again(self, losses: Tensor, present: Tensor) -> None:
        # What a task without rows had before it has still, so it counts as unchanged.
        self._scalariser.update(self._known(losses, present))

    def state(self) -> dict[str, Any]:
        famo = self._scalariser
        adam = {} if famo._optimizer is None else deepcopy(famo._optimizer.state_dict()["state"])
        return super().state() | {"logits": famo._w.detach().clone(), "adam": adam}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        famo = self._scalariser
        with torch.no_grad():
            famo._w.copy_(state["logits"])
        famo._optimizer = torch.optim.Adam([famo._w], lr=famo.lr, weight_decay=famo.weight_decay)
        famo._optimizer.load_state_dict(famo._optimizer.state_dict() | {"state": state["adam"]})
