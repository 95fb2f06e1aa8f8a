"""A multilayer perceptron with its gradient, as one node of autograd or without it.

Step for step the same as calling the layers one by one, to the last digits but those of tanh; it saves the temporaries
and what autograd costs per operation, which is most of the time of a small network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from varshare_pl.sharing.activations import Activation
from varshare_pl.sharing.base import OfPrepared, Prepared
from varshare_pl.sharing.elementwise import inverse_root

NARROW = 16  # columns


def mlp(x: Tensor, prepared: Sequence[Any], activation: Activation) -> Tensor:
    """Rows x (G, R, in) through all layers, the activation between them: (G, R, out).

    Layer by layer where ``is_plain`` says no.
    """
    if not is_plain(x, prepared):
        *hidden, last = prepared
        for weights in hidden:
            x = activation.function(weights.times(x))
        return last.times(x)  # type: ignore[no-any-return]
    rows = _rows(x, prepared)
    if torch.is_grad_enabled():
        fields = 4 if any(weights.variance is not None for weights in prepared) else 2
        flat = [tensor for weights in prepared for tensor in weights[:fields]]
        output: Tensor = _MLP.apply(activation, fields, rows, *flat)  # type: ignore[no-untyped-call]
    else:
        output = _forward(activation, rows, prepared, None)
    return output if rows is x else output.reshape(*x.shape[:-1], -1)


@torch.no_grad()
def mlp_with_pullback(
    x: Tensor, prepared: Sequence[Prepared], activation: Activation
) -> tuple[Tensor, Callable[[Tensor], list[OfPrepared]]]:
    """The same without autograd, where ``is_plain``; and what takes the gradient of the output to those of the layers.

    There is no gradient of the input.
    """
    saved: list[Tensor | None] = []
    rows = _rows(x, prepared)
    output = _forward(activation, rows, prepared, saved)

    def pullback(gradient: Tensor) -> list[OfPrepared]:
        if rows is not x:
            gradient = gradient.reshape(-1, gradient.shape[-1])
        return _backward(activation, prepared, saved, gradient, needs_x=False)[1]

    return output if rows is x else output.reshape(*x.shape[:-1], -1), pullback


def is_plain(x: Tensor, prepared: Sequence[Any]) -> bool:
    """Whether all layers are ``Prepared`` and nothing else, and without autocast, which does not look in here."""
    return all(type(weights) is Prepared for weights in prepared) and not torch.is_autocast_enabled(x.device.type)


def _rows(x: Tensor, prepared: Sequence[Prepared]) -> Tensor:
    """The rows without groups, (G · R, in), if all groups have the same weights."""
    for weights in prepared:
        if weights.weight.dim() != 2 or weights.bias.dim() != 1 or weights.variance is not None:
            return x
    return x.reshape(-1, x.shape[-1])


class _MLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, activation: Activation, fields: int, x: Tensor, *flat: Tensor | None) -> Tensor:
        prepared = [Prepared(*flat[i : i + fields]) for i in range(0, len(flat), fields)]  # type: ignore[arg-type]
        ctx.activation, ctx.fields, ctx.count = activation, fields, len(flat)
        saved: list[Tensor | None] = []
        output = _forward(activation, x, prepared, saved)
        ctx.save_for_backward(*flat, *saved)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        tensors, fields, count = ctx.saved_tensors, ctx.fields, ctx.count
        prepared = [Prepared(*tensors[i : i + fields]) for i in range(0, count, fields)]
        needs_x = ctx.needs_input_grad[2]
        of_x, of_layers = _backward(ctx.activation, prepared, tensors[count:], gradient, needs_x)
        flat = (g for of_layer in of_layers for g in (*of_layer, None)[:fields])
        return None, None, of_x if needs_x else None, *flat


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


def _backward(
    activation: Activation,
    prepared: Sequence[Prepared],
    saved: Sequence[Tensor | None],
    gradient: Tensor,
    needs_x: bool,
) -> tuple[Tensor, list[OfPrepared]]:
    """Gradients of the input, where it is needed, and of the layers, from that of the output."""
    of_layers: list[OfPrepared] = []
    for layer in reversed(range(len(prepared))):
        x, kept, *noise = saved[4 * layer : 4 * layer + 4]
        assert x is not None
        if kept is not None:
            gradient = activation.backward(gradient, kept)
        gradient, of_layer = _layer_backward(prepared[layer], x, noise, gradient, layer > 0 or needs_x)
        of_layers.append(of_layer)
    return gradient, of_layers[::-1]


def _layer(weights: Prepared, x: Tensor) -> tuple[Tensor, tuple[Tensor | None, Tensor | None]]:
    """The layer's output, a new tensor; x² and one over the deviation of its local noise, see ``local_output``."""
    weight, bias, variance, zeta = weights
    output = _times(x, weight, bias)
    if variance is None or zeta is None:
        return output, (None, None)
    squares = x * x
    of_output = _times(squares, variance).clamp_min_(torch.finfo(x.dtype).tiny)
    inverse = inverse_root(of_output)  # faster than a square root, and saves dividing by it
    return output.addcmul_(of_output.mul_(inverse), zeta), (squares, inverse)


def _times(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Rows x (G, R, in), or (rows, in), times a weight (G, out, in) or (out, in), plus a bias.

    Where out is narrow, as in a head, the product is taken transposed: several times as fast on a CPU, and so is what
    follows along the narrow axis.
    """
    if type(x) is not Tensor and bias is not None:  # a compiler traces, and adds along with what comes next
        return _times(x, weight) + bias
    if weight.dim() == 3:
        if weight.shape[-2] <= NARROW:
            output = torch.bmm(weight, x.mT).mT
            return output if bias is None else output.add_(bias)
        if bias is None:
            return torch.bmm(x, weight.mT)
        return torch.baddbmm(bias.view(-1, 1, bias.shape[-1]), x, weight.mT)
    if x.dim() == 3:
        output = _times(x.reshape(-1, x.shape[-1]), weight).view(*x.shape[:-1], -1)
        return output if bias is None else output.add_(bias)
    if weight.shape[-2] > NARROW and bias is not None:
        return torch.addmm(bias, x, weight.mT)
    output = torch.mm(weight, x.mT).mT if weight.shape[-2] <= NARROW else torch.mm(x, weight.mT)
    return output if bias is None else output.add_(bias)


def _weight_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """Of a weight in ``x @ weight.mT``; the narrower factor goes first, which is up to ten times as fast on a CPU."""
    if gradient.shape[-1] <= x.shape[-1]:
        return gradient.mT @ x
    return (x.mT @ gradient).mT


def _layer_backward(
    weights: Prepared, x: Tensor, noise: Sequence[Tensor | None], gradient: Tensor, needs_x: bool
) -> tuple[Tensor, OfPrepared]:
    """Gradients of the input (where it is needed) and of the layer's prepared tensors."""
    weight, bias, variance, zeta = weights
    if x.dim() == 2:
        of_bias, of_weight = gradient.sum(0), _weight_gradient(x, gradient)
    else:
        rows = gradient.reshape(-1, gradient.shape[-1])
        of_bias = gradient.sum(1, keepdim=True) if bias.dim() == 3 else rows.sum(0)
        one = weight.dim() == 2
        of_weight = _weight_gradient(x.reshape(-1, x.shape[-1]), rows) if one else _weight_gradient(x, gradient)
    of_x = _input_gradient(gradient, weight) if needs_x else gradient
    of_variance = None
    squares, inverse = noise
    if variance is not None and zeta is not None and squares is not None and inverse is not None:
        # s = √v: dL/dv = dL/dy ζ / (2 s), and v = x² · σ². A row of zeros makes that large, but meets its x = 0 below.
        twice_of_v = (gradient * zeta).mul_(inverse)
        of_variance = _weight_gradient(squares, twice_of_v).mul_(0.5)
        if needs_x:
            of_x = of_x.addcmul_(_input_gradient(twice_of_v, variance), x)
    return of_x, OfPrepared(of_weight, of_bias, of_variance)


def _input_gradient(gradient: Tensor, weight: Tensor) -> Tensor:
    if gradient.shape[-1] == 1:
        return gradient * weight
    if weight.dim() == gradient.dim():
        return torch.bmm(gradient, weight) if weight.dim() == 3 else torch.mm(gradient, weight)
    return torch.mm(gradient.reshape(-1, gradient.shape[-1]), weight).view(*gradient.shape[:-1], -1)
