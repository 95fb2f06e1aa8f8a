"""Functions of each number that NumPy computes faster than torch, for float32 on a CPU: two to ten times, to 1e-7.

Outside of autograd only.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def tanh_(x: Tensor) -> Tensor:
    """In place."""
    if not _is_for_numpy(x):
        return x.tanh_()
    array = x.numpy()
    np.tanh(array, out=array)
    return x


def exp(x: Tensor) -> Tensor:
    """A new tensor."""
    if not _is_for_numpy(x):
        return x.exp()
    with np.errstate(over="ignore"):  # torch does not warn either
        return torch.from_numpy(np.exp(x.numpy()))


def expm1(x: Tensor) -> Tensor:
    """A new tensor."""
    if not _is_for_numpy(x):
        return x.expm1()
    with np.errstate(over="ignore"):
        return torch.from_numpy(np.expm1(x.numpy()))


def _is_for_numpy(x: Tensor) -> bool:
    return x.dtype is torch.float32 and x.device.type == "cpu" and type(x) is Tensor  # others: a compiler traces
