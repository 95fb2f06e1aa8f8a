"""A multilayer perceptron with its gradient as one node of autograd.

Step for step the same as calling the layers one by one, to the last digits but those of tanh; it saves the temporaries
and what autograd costs per operation, which is most of the time of a small network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from varshare_pl.policy.activations import Activation
from varshare_pl.sharing.base import Prepared

FIELDS = len(Prepared._fields)
NARROW = 16  # columns


def mlp(x: Tensor, prepared: Sequence[Prepared], activation: Activation) -> Tensor:
    """Rows x (G, R, in) through all layers, the activation between them: (G, R, out)."""
    flat = [tensor for weights in prepared for tensor in weights]
    if torch.is_grad_enabled():
        return _MLP.apply(activation, x, *flat)  # type: ignore[no-any-return, no-untyped-call]
    return _forward(activation, x, prepared, None)


class _MLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, activation: Activation, x: Tensor, *flat: Tensor | None) -> Tensor:
        prepared = [Prepared(*flat[i : i + FIELDS]) for i in range(0, len(flat), FIELDS)]  # type: ignore[arg-type]
        ctx.activation, ctx.layers = activation, len(prepared)
        saved: list[Tensor | None] = []
        output = _forward(activation, x, prepared, saved)
        ctx.save_for_backward(*flat, *saved)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        tensors, count = ctx.saved_tensors, ctx.layers * FIELDS
        gradients: list[tuple[Tensor | None, ...]] = []
        for layer in reversed(range(ctx.layers)):
            prepared = Prepared(*tensors[layer * FIELDS : (layer + 1) * FIELDS])
            x, kept, *noise = tensors[count + 4 * layer : count + 4 * layer + 4]
            if kept is not None:
                gradient = ctx.activation.backward(gradient, kept)
            needs_x = layer > 0 or ctx.needs_input_grad[1]
            gradient, of_layer = _layer_backward(prepared, x, noise, gradient, needs_x)
            gradients.append(of_layer)
        flat = (g for of_layer in reversed(gradients) for g in of_layer)
        return None, gradient if ctx.needs_input_grad[1] else None, *flat


def _forward(
    activation: Activation, x: Tensor, prepared: Sequence[Prepared], saved: list[Tensor | None] | None
) -> Tensor:
    """The output; ``saved`` gets of each layer its input, what its activation's derivative needs, and of its noise."""
    last = len(prepared) - 1
    for index, weights in enumerate(prepared):
        before, noise = _layer(weights, x)
        output, kept = before, None
        if index < last:
            output = activation.in_place(before)
            kept = before if activation.needs_input else output
        if saved is not None:
            saved += [x, kept, *noise]
        x = output
    return x


def _layer(weights: Prepared, x: Tensor) -> tuple[Tensor, tuple[Tensor | None, Tensor | None]]:
    """The layer's output, a new tensor; x² and the standard deviation of its local noise, see ``local_output``."""
    weight, bias, variance, zeta = weights
    output = _times(x, weight, bias)
    if variance is None or zeta is None:
        return output, (None, None)
    squares = x * x
    deviation = _times(squares, variance).clamp_min_(torch.finfo(x.dtype).tiny).sqrt_()
    return output.addcmul_(deviation, zeta), (squares, deviation)


def _times(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Rows x (G, R, in) times a weight (G, in, out) or (in, out), plus a bias: (G, R, out).

    Where out is narrow, as in a head, the product is taken transposed: several times as fast on a CPU, and so is what
    follows along the narrow axis.
    """
    if weight.dim() == 3:
        if weight.shape[-1] <= NARROW:
            output = torch.bmm(weight.mT, x.mT).mT
            return output if bias is None else output.add_(bias)
        return torch.bmm(x, weight) if bias is None else torch.baddbmm(bias.view(-1, 1, bias.shape[-1]), x, weight)
    rows = x.reshape(-1, x.shape[-1])
    if weight.shape[-1] <= NARROW:
        output = torch.mm(weight.mT, rows.mT).mT.view(*x.shape[:-1], -1)
        return output if bias is None else output.add_(bias)
    if bias is not None and bias.dim() == 1:
        return torch.addmm(bias, rows, weight).view(*x.shape[:-1], -1)
    output = torch.mm(rows, weight).view(*x.shape[:-1], -1)
    return output if bias is None else output.add_(bias)


def _weight_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """Of a weight in ``x @ weight``; the narrower factor goes first, which is up to ten times as fast on a CPU.

    Between equals the result lies in memory as the parameter (out, in) does.
    """
    if gradient.shape[-1] <= x.shape[-1]:
        return (gradient.mT @ x).mT
    return x.mT @ gradient


def _layer_backward(
    weights: Prepared, x: Tensor, noise: Sequence[Tensor | None], gradient: Tensor, needs_x: bool
) -> tuple[Tensor, tuple[Tensor | None, ...]]:
    """Gradients of the input (where it is needed) and of the layer's prepared tensors."""
    weight, bias, variance, zeta = weights
    width = gradient.shape[-1]
    of_bias = gradient.sum(1, keepdim=True) if bias.dim() == 3 else gradient.reshape(-1, width).sum(0)
    if weight.dim() == 2:
        of_weight = _weight_gradient(x.reshape(-1, x.shape[-1]), gradient.reshape(-1, width))
    else:
        of_weight = _weight_gradient(x, gradient)
    of_x = _input_gradient(gradient, weight) if needs_x else gradient
    of_variance = None
    squares, deviation = noise
    if variance is not None and zeta is not None and squares is not None and deviation is not None:
        # s = √v: dL/dv = dL/dy ζ / (2 s), and v = x² · σ². A row of zeros makes that large, but meets its x = 0 below.
        twice_of_v = (gradient * zeta).div_(deviation)
        of_variance = _weight_gradient(squares, twice_of_v).mul_(0.5)
        if needs_x:
            of_x = of_x.addcmul_(_input_gradient(twice_of_v, variance), x)
    return of_x, (of_weight, of_bias, of_variance, None)


def _input_gradient(gradient: Tensor, weight: Tensor) -> Tensor:
    if gradient.shape[-1] == 1:
        return gradient * weight.mT
    if weight.dim() == 3:
        return torch.bmm(gradient, weight.mT)
    return torch.mm(gradient.reshape(-1, gradient.shape[-1]), weight.mT).view(*gradient.shape[:-1], -1)
