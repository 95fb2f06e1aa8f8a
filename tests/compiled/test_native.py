"""Layers in C++ against the plain functions: outputs, and gradients of all that has one."""

from itertools import pairwise

import pytest
import torch

from varshare_pl.compilation import library
from varshare_pl.errors import ConfigError
from varshare_pl.networks.layer import LinearWeights
from varshare_pl.networks.native import native_mlp
from varshare_pl.networks.network import mlp

GENERATOR = torch.Generator()


def randn(*shape):
    return torch.randn(*shape, generator=GENERATOR)


def make_layers(groups, rows, sizes, own_weights=True, own_biases=False, local=()):
    layers = []
    for number, (inputs, outputs) in enumerate(pairwise(sizes)):
        weight = randn(*([groups] * own_weights), outputs, inputs) / inputs**0.5
        bias = randn(groups, 1, outputs) if own_biases else randn(outputs)
        noise = (randn(groups, outputs, inputs).square() / inputs, randn(groups, rows, outputs))
        layers.append(LinearWeights(weight, bias, *(noise if number in local else ())))
    return layers


def with_gradients(function, x, layers, activation, of_input):
    x = x.clone().requires_grad_(of_input)
    layers = [LinearWeights(*(None if t is None else t.clone().requires_grad_() for t in layer)) for layer in layers]
    layers = [layer if layer.zeta is None else layer._replace(zeta=layer.zeta.detach()) for layer in layers]
    y = function(x, layers, activation)
    towards = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    leaves = [t for layer in layers for t in layer[:3] if t is not None] + [x] * of_input
    return [y.detach(), *torch.autograd.grad((y * towards).sum(), leaves)]


# Rows below, at and above those of a chunk; widths that fill vectors and that do not; more inputs than outputs.
CASES = [
    (1, 64, [4, 64, 64, 2], {"own_weights": False}),
    (5, 7, [4, 64, 64, 2], {"own_weights": False}),
    (3, 130, [39, 40, 30, 4], {"own_biases": True}),
    (2, 70, [100, 64, 1], {"own_biases": True, "own_weights": False}),
    (5, 20, [4, 64, 48, 1], {"local": (0, 1, 2)}),
    (3, 77, [39, 20, 30, 5], {"local": (1,), "own_biases": True}),
    (2, 1, [3, 112, 17], {"local": (0, 1)}),
]


@pytest.mark.parametrize("of_input", [False, True])
@pytest.mark.parametrize("activation", [torch.tanh, torch.relu])
@pytest.mark.parametrize(("groups", "rows", "sizes", "options"), CASES)
def test_layers_in_cpp_are_the_plain_ones(groups, rows, sizes, options, activation, of_input):
    GENERATOR.manual_seed(1)
    layers, x = make_layers(groups, rows, sizes, **options), randn(groups, rows, sizes[0])
    expected = with_gradients(mlp, x, layers, activation, of_input)
    found = with_gradients(native_mlp, x, layers, activation, of_input)
    assert "MLP" in native_mlp(x.requires_grad_(), layers, activation).grad_fn.next_functions[0][0].name()
    for one, two in zip(expected, found, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-4, atol=2e-6 * float(one.abs().max()))


def test_rows_of_zeros_have_finite_gradients():
    GENERATOR.manual_seed(1)
    layers = make_layers(2, 3, [4, 8, 1], local=(0, 1))
    expected, found = (with_gradients(f, torch.zeros(2, 3, 4), layers, torch.tanh, False) for f in (mlp, native_mlp))
    for one, two in zip(expected, found, strict=True):
        assert two.isfinite().all()
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", [torch.tanh, torch.relu])
def test_what_is_not_a_number_stays_none(activation):
    GENERATOR.manual_seed(1)
    x = randn(1, 5, 4)
    x[0, 2, 1] = torch.nan
    y = native_mlp(x, make_layers(1, 5, [4, 8, 2]), activation)
    assert y[0].isnan().all(1).tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("activation", [torch.nn.functional.silu, torch.tanh])
def test_what_the_cpp_does_not_know_is_computed_as_ever(activation):
    GENERATOR.manual_seed(1)
    layers, x = make_layers(2, 5, [4, 8, 2]), randn(2, 5, 4)
    if activation is torch.tanh:
        layers, x = [LinearWeights(layer.weight.double(), layer.bias.double()) for layer in layers], x.double()
    assert torch.equal(native_mlp(x, layers, activation), mlp(x, layers, activation))


def test_without_a_compiler_there_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("VARSHARE_CACHE", str(tmp_path))
    search = torch._inductor.cpp_builder.cpp_compiler_search
    search.cache_clear()
    told = pytest.raises(ConfigError, match=r"model\.compile: needs a C\+\+ compiler")
    with torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}), told:
        library.load.__wrapped__()
    search.cache_clear()
    assert list(tmp_path.iterdir()) == []


def test_what_the_compiler_cannot_build_is_told_in_one_line(monkeypatch, tmp_path):
    broken = tmp_path / "broken.cpp"
    broken.write_text("int main() { return nothing; }\n")
    monkeypatch.setenv("VARSHARE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(library, "SOURCE", broken)
    with pytest.raises(ConfigError, match=r"model\.compile: \S+ could not build broken\.cpp: .*error.*nothing"):
        library.load.__wrapped__()
    assert list((tmp_path / "cache").iterdir()) == []
