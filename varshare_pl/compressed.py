"""Checkpoints that hold some tensors in fewer numbers: the entries that are not 0, or what all of them are equal to.

Plain tensors and lists only, under one key beside the state dict, so that they load as any checkpoint does.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

COMPRESSED_KEY = "compressed"


def compress(checkpoint: Mapping[str, Any], sparse: Collection[str], filled: Mapping[str, Tensor]) -> dict[str, Any]:
    """The checkpoint with some tensors of its state dict compressed.

    Args:
        checkpoint: Of a run.
        sparse: Names of tensors of which the entries that are not 0 are kept, with their places.
        filled: By name, a tensor that is kept instead, such as (M, 1, 1) for (M, out, in); it is expanded on reading.
    """
    state: dict[str, Tensor] = dict(checkpoint["state_dict"])
    compressed: dict[str, dict[str, Any]] = {}
    for name in sparse:
        tensor = state.pop(name)
        small = tensor.numel() <= torch.iinfo(torch.int32).max
        indices = tensor.flatten().nonzero().flatten().to(torch.int32 if small else torch.int64)
        values = tensor.flatten()[indices.long()]
        compressed[name] = {"shape": list(tensor.shape), "indices": indices, "values": values}
    for name, value in filled.items():
        compressed[name] = {"shape": list(state.pop(name).shape), "fill": value}
    return {**checkpoint, "state_dict": state, COMPRESSED_KEY: compressed}


def expand_(checkpoint: dict[str, Any]) -> None:
    """Put the compressed tensors of a checkpoint, if it has any, back into its state dict."""
    for name, kept in checkpoint.pop(COMPRESSED_KEY, {}).items():
        shape = kept["shape"]
        if "fill" in kept:
            tensor = kept["fill"].expand(shape).clone()
        else:
            tensor = kept["values"].new_zeros(math.prod(shape))
            tensor[kept["indices"].long()] = kept["values"]
        checkpoint["state_dict"][name] = tensor.view(shape)


def weight_bytes(checkpoint: Mapping[str, Any], prefix: str) -> int:
    """Bytes of the tensors whose names begin so, as they are stored."""
    stored = [tensor for name, tensor in checkpoint["state_dict"].items() if name.startswith(prefix)]
    for name, kept in checkpoint.get(COMPRESSED_KEY, {}).items():
        if name.startswith(prefix):
            stored += [part for part in kept.values() if isinstance(part, Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in stored)
