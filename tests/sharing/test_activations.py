import pytest
import torch
from helpers import randn

from varshare_pl.networks.activations import ACTIVATIONS

EXTREME = torch.tensor([0.0, -0.0, 1e-30, -1e-6, 20.0, -20.0, 1e30, -1e30, torch.inf, -torch.inf, torch.nan])


def inputs(dtype):
    return torch.cat([3 * randn(500).to(dtype), EXTREME.to(dtype)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_in_place_equals_the_function(name, dtype):
    activation, x = ACTIVATIONS[name], inputs(dtype)
    expected = activation.function(x)
    argument = x.clone()
    found = activation.in_place(argument)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=2e-7, equal_nan=True)
    if activation.needs_input:
        assert torch.equal(argument.nan_to_num(7.0), x.nan_to_num(7.0))
    columns = x[:510].view(51, 10).clone().mT  # not contiguous
    torch.testing.assert_close(activation.in_place(columns), expected[:510].view(51, 10).mT, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_backward_equals_autograd(name, dtype):
    activation, x = ACTIVATIONS[name], 3 * randn(500).to(dtype)
    x[:2] = torch.tensor([0.0, -0.0])
    seed = randn(500, seed=1).to(dtype)
    leaf = x.clone().requires_grad_()
    output = activation.function(leaf)
    output.backward(seed)
    kept = x if activation.needs_input else output.detach()
    torch.testing.assert_close(activation.backward(seed, kept), leaf.grad, rtol=1e-6, atol=1e-7)


def test_tanh_of_single_precision_is_as_exact_as_torchs():
    x = torch.linspace(-12, 12, 100_001)
    exact = torch.tanh(x.double())
    error = (ACTIVATIONS["tanh"].in_place(x.clone()).double() - exact).abs().max()
    assert error <= 1.5e-7
