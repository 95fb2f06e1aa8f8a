"""NumPy's functions in torch's place: the same numbers, the same gradient, the same silence."""

import pytest
import torch
from helpers import randn

from varshare_pl.sharing.elementwise import exp, expm1, inverse_root, tanh, tanh_

DTYPES = [torch.float32, torch.float64]
FUNCTIONS = {
    "exp": (exp, torch.exp),
    "expm1": (expm1, torch.expm1),
    "inverse_root": (lambda x: inverse_root(x.abs() + 0.1), lambda x: (x.abs() + 0.1).rsqrt()),
    "tanh": (tanh, torch.tanh),
    "tanh_": (tanh_, torch.tanh),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_are_exact(name, dtype):
    ours, torchs = FUNCTIONS[name]
    for x in (3.0 * randn(5, 7, 3), 1e-4 * randn(40), 3.0 * randn(6, 8)[:, ::2], 3.0 * randn(4, 5).T):
        expected = torchs(x)
        found = ours(x.to(dtype))
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), expected, rtol=4e-7 if dtype == torch.float32 else 1e-14, atol=1e-10)


@pytest.mark.parametrize("dtype", DTYPES)
def test_only_tanh_in_place_changes_its_argument(dtype):
    for name, (ours, _) in FUNCTIONS.items():
        x = randn(4, 5).to(dtype)
        before = x.clone()
        found = ours(x)
        assert (found.data_ptr() == x.data_ptr()) == (not torch.equal(x, before)) == (name == "tanh_")


@pytest.mark.parametrize("function", [exp, expm1])
def test_an_overflow_is_infinite_as_in_torch(function):
    assert function(torch.full((16,), 200.0)).isinf().all()
    assert function(torch.full((16,), torch.nan)).isnan().all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_tanh_has_torchs_gradient(dtype):
    x, seed = (randn(5, 7, seed=k).to(dtype) for k in (1, 2))
    gradients = []
    for function in (tanh, torch.tanh):
        leaf = x.clone().requires_grad_()
        function(leaf).backward(seed)
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)
