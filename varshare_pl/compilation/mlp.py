"""A grouped multilayer perceptron in C++ as two operators of torch, forward and backward.

Torch's products take longer to call than to compute on small matrices. A function that is compiled calls these
operators without a detour; called by themselves they compute the same. What is computed is said by the plain functions
in ``networks``: ``mlp``, ``LinearWeights.apply`` and ``local_output``.

The layout of a call is a list of integers: G, R, the activation, the number of layers, the length of the tape and that
of the gradients; then for each layer inputs, outputs, and whether each group has weights, has a bias and has noise of
its own. The tape is what forward keeps for backward.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from varshare_pl.compilation import library

Layer = tuple[Tensor, Tensor, Tensor | None, Tensor | None]
"""Weight (G, out, in) or (out, in), bias (G, 1, out) or (out,); under local noise σ² (G, out, in) and ζ (G, R, out)."""

ACTIVATIONS = {torch.tanh: 0, torch.relu: 1}  # by their numbers in C++
BEFORE_LAYERS, OF_LAYER = 6, 5  # integers of a layout
PAD = 16  # floats, of which the tape's rows have a multiple

SIGNATURES = {
    "varshare_mlp_forward": "(Tensor x, Tensor[] tensors, int[] layout) -> (Tensor, Tensor)",
    "varshare_mlp_backward": (
        "(Tensor dy, Tensor x, Tensor[] tensors, Tensor tape, int[] layout, bool of_input) -> (Tensor, Tensor)"
    ),
}


def mlp(x: Tensor, layers: Sequence[Layer], activation: Any) -> Tensor:
    """Rows x (G, R, in) through layers, the activation between them: (G, R, out); all float32 on the CPU."""
    tensors = [tensor.contiguous() for layer in layers for tensor in layer if tensor is not None]
    output: Tensor = _MLP.apply(x.contiguous(), _layout(x, layers, activation), *tensors)  # type: ignore[no-untyped-call]
    return output


def _layout(x: Tensor, layers: Sequence[Layer], activation: Any) -> list[int]:
    groups, rows, _ = x.shape
    of_layers, tape, gradients = [], 0, 0
    for number, (weight, bias, variance, _) in enumerate(layers, 1):
        outputs, inputs = weight.shape[-2:]
        kept = int(number < len(layers)) + int(variance is not None)  # activations and standard deviations
        tape += kept * groups * rows * (-outputs // PAD * -PAD)
        gradients += sum(tensor.numel() for tensor in (weight, bias, variance) if tensor is not None)
        of_layers += [inputs, outputs, int(weight.dim() == 3), int(bias.dim() == 3), int(variance is not None)]
    return [groups, rows, ACTIVATIONS[activation], len(layers), tape, gradients, *of_layers]


class _MLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layout: list[int], *tensors: Tensor) -> Tensor:
        output, tape = torch.ops.varshare.varshare_mlp_forward(x, list(tensors), layout)
        ctx.layout = layout
        ctx.save_for_backward(x, tape, *tensors)
        return output  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *of_output: Tensor) -> tuple[Tensor | None, ...]:
        x, tape, *tensors = ctx.saved_tensors
        of_input = ctx.needs_input_grad[0]
        dy = of_output[0].contiguous()
        flat, dx = torch.ops.varshare.varshare_mlp_backward(dy, x, tensors, tape, ctx.layout, of_input)
        have_one = [
            h for local in ctx.layout[BEFORE_LAYERS + 4 :: OF_LAYER] for h in [True, True, *[True, False] * local]
        ]
        sizes = [tensor.numel() for tensor, has in zip(tensors, have_one, strict=True) if has]
        pieces = iter(torch.split(flat, sizes))
        gradients = (next(pieces).view(t.shape) if has else None for t, has in zip(tensors, have_one, strict=True))
        return (dx if of_input else None, None, *gradients)


def _empty_forward(x: Tensor, _: Sequence[Tensor], layout: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Outputs and tape, not yet computed."""
    return x.new_empty(*layout[:2], layout[1 - OF_LAYER]), x.new_empty(layout[4])


def _empty_backward(
    dy: Tensor, x: Tensor, _: Sequence[Tensor], __: Tensor, layout: Sequence[int], of_input: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of all weights in one vector, and of x, not yet computed."""
    return dy.new_empty(layout[5]), x.new_empty(*layout[:2], layout[BEFORE_LAYERS] if of_input else 0)


def _forward(x: Tensor, tensors: Sequence[Tensor], layout: Sequence[int]) -> tuple[Tensor, Tensor]:
    outputs = _empty_forward(x, tensors, layout)
    library.load().varshare_mlp_forward(_integers(layout), _addresses(tensors), *map(_address, (x, *outputs)))
    return outputs


def _backward(
    dy: Tensor, x: Tensor, tensors: Sequence[Tensor], tape: Tensor, layout: Sequence[int], of_input: bool
) -> tuple[Tensor, Tensor]:
    flat, dx = _empty_backward(dy, x, tensors, tape, layout, of_input)
    passed = (*map(_address, (x, tape, dy, flat)), _address(dx) if of_input else None)
    library.load().varshare_mlp_backward(_integers(layout), _addresses(tensors), *passed)
    return flat, dx


def _address(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _addresses(tensors: Sequence[Tensor]) -> Any:
    return (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))


def _integers(values: Sequence[int]) -> Any:
    return (ctypes.c_int64 * len(values))(*values)


def _register() -> Any:
    """The operators exist for as long as what this gives."""
    operators: Any = torch.library.Library
    made = operators("varshare", "DEF")
    functions: list[tuple[Any, Any]] = [(_empty_forward, _forward), (_empty_backward, _backward)]
    for name, (empty, compute) in zip(SIGNATURES, functions, strict=True):
        made.define(name + SIGNATURES[name])
        made.impl(name, compute, "CPU")
        torch.library.register_fake(f"varshare::{name}", empty, lib=made)
    return made


_OPERATORS = _register()


def compiler_options() -> dict[str, Any]:
    """For torch's compiler: the C functions that do what the operators do. A torch without the option calls Python."""
    if not hasattr(torch._inductor.config.aot_inductor, "custom_ops_to_c_shims"):
        return {}
    tensor, output = "AtenTensorHandle", "AtenTensorHandle*"
    tensors, integers = "const AtenTensorHandle*, int64_t", "const int64_t*, int64_t"
    parameters = (
        (tensor, tensors, integers, output, output),
        (tensor, tensor, tensors, tensor, integers, "int32_t", output, output),
    )
    functions = {
        getattr(torch.ops.varshare, name).default: [f"AOTITorchError aoti_torch_cpu_{name}({', '.join(types)})"]
        for name, types in zip(SIGNATURES, parameters, strict=True)
    }
    return {"aot_inductor.custom_ops_to_c_shims": functions}
