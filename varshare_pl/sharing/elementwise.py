"""Functions of each number by the fastest way there is; all but ``tanh`` outside of autograd.

For float32 on a CPU NumPy is two to ten times as fast as torch, and both are exact to 1e-7.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def tanh(x: Tensor) -> Tensor:
    """A new tensor, for autograd too."""
    return _Tanh.apply(x) if _is_for_numpy(x) else x.tanh()  # type: ignore[no-untyped-call]


class _Tanh(torch.autograd.Function):
    """d tanh x / dx = 1 − tanh² x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        output = tanh_(x.detach().clone())
        ctx.save_for_backward(output)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (output,) = ctx.saved_tensors
        return tanh_backward(gradient, output)


def tanh_backward(gradient: Tensor, output: Tensor) -> Tensor:
    """The argument's gradient, from the output's and the output."""
    return torch.ops.aten.tanh_backward(gradient, output)  # type: ignore[no-any-return]


def tanh_(x: Tensor) -> Tensor:
    """In place, outside of autograd."""
    if not _is_for_numpy(x):
        return x.tanh_()
    array = x.numpy()
    np.tanh(array, out=array)
    return x


def exp(x: Tensor) -> Tensor:
    """A new tensor."""
    return _by_numpy(np.exp, x) if _is_for_numpy(x) else x.exp()


def expm1(x: Tensor) -> Tensor:
    """A new tensor."""
    return _by_numpy(np.expm1, x) if _is_for_numpy(x) else x.expm1()


def inverse_root(x: Tensor) -> Tensor:
    """1/√x, a new tensor."""
    # In torch the power takes a third of the time of a square root, half of that of rsqrt; compiled it is the slowest.
    return x.pow(-0.5) if type(x) is Tensor else x.rsqrt()


def _by_numpy(function: np.ufunc, x: Tensor) -> Tensor:
    with np.errstate(over="ignore"):  # torch does not warn either
        return torch.from_numpy(function(x.numpy()))


def _is_for_numpy(x: Tensor) -> bool:
    return x.dtype is torch.float32 and x.device.type == "cpu" and type(x) is Tensor  # others: a compiler traces
