"""Gradients by hand, where autograd costs more than they do.

For a small network autograd's own work takes as long as the arithmetic. So what every gradient step goes through comes
in pairs: a value, and a pullback, which takes the gradient of the value to those of what the value was made of
(cotangents). Where nobody wrote a pullback, autograd is asked: ``by_autograd``. Both must agree, and tests hold them to
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

WHOLE = slice(None)


class Cotangent(NamedTuple):
    """The gradient that has reached a tensor."""

    tensor: Tensor  # a parameter, or a tensor of autograd's graph
    gradient: Tensor  # of its shape
    factor: float = 1.0  # that the gradient is to be multiplied with
    part: slice = WHOLE  # of the tensor's first axis, if the gradient is of that part alone


Pullback = Callable[[Tensor], list[Cotangent]]
"""Takes the gradient of a value to what the value was made of."""


def by_autograd(value: Tensor) -> tuple[Tensor, Pullback]:
    """A value of autograd's graph, without it, and its pullback, which ends at the value itself."""
    return value.detach(), lambda gradient: [Cotangent(value, gradient)] if value.requires_grad else []


def accumulate(cotangents: Iterable[Cotangent]) -> None:
    """Add gradients to those of the parameters, through autograd's graph where there is one in between."""
    tensors, gradients = [], []
    with torch.no_grad():
        for tensor, gradient, factor, part in cotangents:
            if not tensor.requires_grad:
                continue
            if tensor.is_leaf and tensor.grad is not None:
                (tensor.grad if part == WHOLE else tensor.grad[part]).add_(gradient, alpha=factor)
                continue
            if part != WHOLE:
                whole = torch.zeros_like(tensor)
                whole[part] = gradient
                gradient = whole
            tensors.append(tensor)
            gradients.append(gradient if factor == 1.0 else gradient * factor)
    if tensors:
        torch.autograd.backward(tensors, gradients)
