"""Networks whose layers are computed in C++, in runs that are compiled."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from varshare_pl.compilation import library
from varshare_pl.compilation import mlp as compiled
from varshare_pl.networks.layer import LinearWeights
from varshare_pl.networks.network import TaskMLP, mlp


def make_native(policy: nn.Module) -> None:
    """Have the multilayer perceptrons in a module on the CPU computed in C++ from now on.

    Not with several threads: torch's products share themselves out over them. Nor on Windows: the C++ is written for
    g++ and clang++.

    Raises:
        ConfigError: if the machine has no C++ compiler.
    """
    if next(policy.parameters()).device.type != "cpu" or torch.get_num_threads() > 1 or sys.platform == "win32":
        return
    library.load()
    for module in policy.modules():
        if isinstance(module, TaskMLP):
            module.through_layers = native_mlp


def native_mlp(x: Tensor, prepared: Sequence[Any], activation: Callable[[Tensor], Tensor]) -> Tensor:
    """The same as ``mlp``, and that itself for what the C++ does not know: other layers, activations and types."""
    known = x.dtype == torch.float32 and activation in compiled.ACTIVATIONS and not torch.is_autocast_enabled("cpu")
    if not known or not all(isinstance(weights, LinearWeights) for weights in prepared):
        return mlp(x, prepared, activation)
    shared = all(weights.are_shared for weights in prepared)
    rows = x.flatten(0, -2).unsqueeze(0) if shared else x
    return compiled.mlp(rows, prepared, activation).view(*x.shape[:-1], -1)
