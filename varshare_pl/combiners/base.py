"""What a gradient combiner is: how the tasks' gradients, or their losses, become the one gradient that is stepped on.

A combiner is chosen once and makes a rule for each network, since actor and critic are combined apart. A
``GradientRule`` sees every task's gradient of the shared parameters; a ``LossRule`` only weighs the tasks' losses,
which takes no gradient per task.

Shapes: M tasks, K of them with rows in the minibatch, P shared parameters of the network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from varshare_pl.discovery import named_subclasses


@dataclass(frozen=True)
class CombinerSpec:
    """What a combiner is told of the network that it makes a rule for."""

    network: str  # "actor" or "critic"
    num_tasks: int  # M


class TaskGradients(NamedTuple):
    """Of the K tasks that have rows in the minibatch, over all processes; on the CPU."""

    gradients: Tensor  # (K, P) gradient of each task's mean loss by the shared parameters
    losses: Tensor  # (K,) each task's mean loss, weighed as in the objective
    tasks: Tensor  # (K,) int64, ascending
    seed: int  # for random numbers of this gradient step


class Rule:
    """What holds for both kinds: state, which goes into checkpoints. A rule without state has nothing to override."""

    def state(self) -> dict[str, Any]:
        """Tensors and plain numbers."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what ``state`` gave."""
        del state

    def end_update(self) -> None:
        """Called after the last gradient step on a rollout."""


class GradientRule(Rule, ABC):
    """Combines the tasks' gradients of one network."""

    @abstractmethod
    def combine(self, given: TaskGradients) -> Tensor:
        """(P,) what takes the place of the mean over tasks of the gradients, which plain training steps on."""


class LossRule(Rule, ABC):
    """Weighs the tasks' losses of one network."""

    looks_again: ClassVar[bool] = False
    """Whether ``look_again`` has something to learn from."""

    @abstractmethod
    def weights(self, losses: Tensor, present: Tensor, seed: int) -> Tensor:
        """(M,) what each task's loss is multiplied with; all 1 is plain training.

        Args:
            losses: (M,) each task's mean loss, weighed as in the objective; what a task without rows has is ignored.
            present: (M,) bool, the tasks that have rows.
            seed: For random numbers of this gradient step.
        """

    def look_again(self, losses: Tensor, present: Tensor) -> None:
        """Told the losses of the same minibatch after the gradient step."""


class GradientCombiner:
    """How the gradients of several tasks are combined. Its init arguments are its options.

    ``name`` is the short name that configs and the command line accept.
    """

    name: ClassVar[str]

    def make(self, spec: CombinerSpec) -> GradientRule | LossRule:
        """A new rule for one network."""
        raise NotImplementedError(f"{type(self).__name__} makes no rule for the {spec.network}")


def combiner_names() -> dict[str, type[GradientCombiner]]:
    """The combiners by their short names, those defined outside this package included once they are imported."""
    return named_subclasses(GradientCombiner)
