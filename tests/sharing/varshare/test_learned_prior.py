"""VarShare's layer with a learned prior."""

import math

import pytest
import torch
from helpers import drawn, perturb
from torch.distributions import Normal, kl_divergence

from varshare_pl.errors import ConfigError
from varshare_pl.sharing.varshare.learned_prior import LearnedPriorLinear

M, IN, OUT = 3, 4, 2


def make(hyperprior=1.0):
    layer = drawn(LearnedPriorLinear(IN, OUT, M, hyperprior=hyperprior)).double()
    perturb(layer)
    return layer


def test_parameters():
    layer = make()
    assert layer.log_prior_std.shape == ()
    assert layer.log_var_parameters() == [layer.log_var, layer.log_prior_std]
    fresh = LearnedPriorLinear(25, OUT, M, prior_scale=0.2)
    assert fresh.log_prior_std.item() == pytest.approx(math.log(0.04))
    drawn(layer)
    assert layer.log_prior_std.item() == pytest.approx(math.log(0.05))


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_bad_hyperprior_raises(value):
    with pytest.raises(ConfigError, match="hyperprior"):
        make(value)


def test_kl_is_to_the_learned_prior():
    layer = make(hyperprior=0.0)
    prior = Normal(torch.zeros_like(layer.mu), layer.log_prior_std.exp())
    expected = kl_divergence(Normal(layer.mu, (0.5 * layer.log_var).exp()), prior).flatten(1).sum(1)
    torch.testing.assert_close(layer.kl(), expected, rtol=1e-10, atol=1e-10)
    assert torch.equal(layer.current_prior_std(), layer.log_prior_std.exp())
    assert layer.current_prior_std().item() != pytest.approx(layer.prior_std, rel=1e-3)


def test_gradient_of_the_layers_kl_in_the_prior():
    """By finite differences and by hand; a log term that is detached would fail both."""
    layer = make(hyperprior=0.7)
    (gradient,) = torch.autograd.grad(layer.kl().sum(), layer.log_prior_std)
    ratio = (layer.log_var.exp() + layer.mu.square()) * (-2 * layer.log_prior_std).exp()
    moved = layer.log_prior_std - math.log(layer.prior_std)
    by_hand = (1 - ratio).sum() + M * OUT * IN * 2 * 0.7 * moved
    torch.testing.assert_close(gradient, by_hand.detach())
    values = []
    for step in (1e-6, -1e-6):
        with torch.no_grad():
            layer.log_prior_std += step
            values.append(layer.kl().sum().item())
            layer.log_prior_std -= step
    assert (values[0] - values[1]) / 2e-6 == pytest.approx(gradient.item(), rel=1e-6)


def test_hyperprior_by_hand():
    weak, strong = make(0.0), make(2.0)
    moved = weak.log_prior_std.item() - math.log(weak.prior_std)
    assert abs(moved) > 0.01
    expected = torch.full((M,), 2.0 * moved**2 * OUT * IN, dtype=torch.float64)
    torch.testing.assert_close(strong.kl() - weak.kl(), expected)


@pytest.mark.parametrize("hyperprior", [0.0, 3.0])
def test_the_prior_finds_the_size_of_the_residuals(hyperprior):
    """With posteriors held fixed, free σ_p ends at the root mean square of the residuals; λ keeps it nearer σ_0."""
    layer = make(hyperprior)
    optimizer = torch.optim.Adam([layer.log_prior_std], lr=0.02)
    for _ in range(1500):
        optimizer.zero_grad()
        layer.kl().sum().backward()
        optimizer.step()
    free = 0.5 * math.log((layer.log_var.exp() + layer.mu.square()).mean().item())
    found, start = layer.log_prior_std.item(), math.log(layer.prior_std)
    if hyperprior:
        assert abs(found - start) < 0.9 * abs(free - start)
    else:
        assert found == pytest.approx(free, abs=1e-4)
