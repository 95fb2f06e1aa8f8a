"""A vector that a combiner learns with an Adam of its own."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor


class LearnedWeights:
    """A vector and its Adam (Kingma and Ba 2015).

    Args:
        values: (M,) becomes the vector.
        lr: Learning rate.
        weight_decay: Added to the gradient, times the vector.
    """

    def __init__(self, values: Tensor, lr: float, weight_decay: float = 0.0) -> None:
        self.values = values
        self._adam = torch.optim.Adam([values], lr=float(lr), weight_decay=float(weight_decay))

    def step(self, gradient: Tensor) -> None:
        """One step against a gradient (M,)."""
        self.values.grad = gradient
        self._adam.step()
        self.values.grad = None

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"values": self.values.detach().clone(), "adam": deepcopy(self._adam.state_dict()["state"])}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what ``state`` gave."""
        with torch.no_grad():
            self.values.copy_(state["values"])
        self._adam.load_state_dict(self._adam.state_dict() | {"state": state["adam"]})
