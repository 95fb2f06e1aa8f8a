"""Activations with their derivatives, as the fused multilayer perceptron needs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from varshare_pl.sharing.elementwise import tanh, tanh_, tanh_backward

ActivationName = Literal["tanh", "relu", "elu", "silu"]


def _tanh_(x: Tensor) -> Tensor:
    """In place, outside of autograd, by the fastest way there is."""
    if type(x) is not Tensor and x.dtype is torch.float32 and x.device.type == "cpu":  # a compiler traces
        return _rational_tanh(x)
    return tanh_(x)


def _rational_tanh(x: Tensor) -> Tensor:
    """Exact to 4e-7: a quotient of polynomials on [−7.9, 7.9], ±1 outside, with the coefficients of Eigen and XLA."""
    x = x.clamp(-7.90531110763549805, 7.90531110763549805)
    square = x * x
    top, bottom = torch.full_like(x, -2.76076847742355e-16), torch.full_like(x, 1.19825839466702e-06)
    for c in (
        2.00018790482477e-13,
        -8.60467152213735e-11,
        5.12229709037114e-08,
        1.48572235717979e-05,
        6.37261928875436e-04,
        4.89352455891786e-03,
    ):
        top = top * square + c
    for c in (1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03):
        bottom = bottom * square + c
    return x * top / bottom


def _relu_backward(gradient: Tensor, output: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward(gradient, output, 0)  # type: ignore[no-any-return]


def _elu_backward(gradient: Tensor, output: Tensor) -> Tensor:
    return torch.ops.aten.elu_backward(gradient, 1, 1, 1, True, output)  # type: ignore[no-any-return]


def _silu_backward(gradient: Tensor, before: Tensor) -> Tensor:
    return torch.ops.aten.silu_backward(gradient, before)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Activation:
    """One activation.

    Attributes:
        function: For autograd, compilers and any device.
        in_place: The same for a tensor outside of autograd that nobody else needs; may overwrite it.
        backward: The gradient of the input, from that of the output and from the output, or from the input where
            ``needs_input``.
        needs_input: See there; ``in_place`` must then leave its argument alone.
    """

    function: Callable[[Tensor], Tensor]
    in_place: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]
    needs_input: bool = False


ACTIVATIONS: dict[str, Activation] = {
    "tanh": Activation(tanh, _tanh_, tanh_backward),
    "relu": Activation(torch.relu, torch.relu_, _relu_backward),
    "elu": Activation(nn.functional.elu, lambda x: nn.functional.elu(x, inplace=True), _elu_backward),
    "silu": Activation(nn.functional.silu, nn.functional.silu, _silu_backward, needs_input=True),
}
