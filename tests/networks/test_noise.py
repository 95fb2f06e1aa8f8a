"""Draws of noise, and both estimators by their definition, by moments and against one another."""

import math

import pytest
import torch
from helpers import drawn, generator, perturb, randn

from varshare_pl.networks.noise import local_noise, weight_noise
from varshare_pl.sharing import LocalNoise, VarShareLinear

M, IN, OUT = 3, 4, 2
TASK = torch.tensor([2, 0, 1, 2, 2, 0])


@pytest.fixture
def layer():
    layer = drawn(VarShareLinear(IN, OUT, M)).double()
    perturb(layer)
    return layer


def test_local_noise_by_hand_per_row(layer):
    x, noise = randn(6, IN), LocalNoise(randn(6, OUT, seed=1))
    output = layer(x, TASK, noise)
    for i, m in enumerate(TASK.tolist()):
        deviation = (layer.sigma()[m].square() @ x[i].square()).sqrt()
        expected = (layer.theta + layer.mu[m]) @ x[i] + deviation * noise.zeta[i] + layer.bias
        torch.testing.assert_close(output[i], expected)


def test_draws_hang_on_the_generator(layer):
    def draws(seed, global_seed):
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        drawn = [weight_noise(layer, generator(seed)), *local_noise(layer, 2, 7, generator(seed))]
        assert torch.equal(torch.get_rng_state(), before)
        return drawn

    first, again, other = draws(1, 0), draws(1, 1), draws(2, 0)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_shapes_and_types_are_the_layers(layer):
    for dtype in (torch.float64, torch.float32):
        layer.to(dtype)
        weights, (zeta,) = weight_noise(layer, generator(1)), local_noise(layer, 2, 7, generator(1))
        assert (weights.shape, weights.dtype) == ((M, OUT, IN), dtype)
        assert (zeta.shape, zeta.dtype) == ((2, 7, OUT), dtype)
    assert not torch.equal(weights[0], weights[1])  # every task has noise of its own


def outputs(layer, x, kind, n=20_000):
    """(n, rows, out) of the rows x (rows, in) of task 1 under n draws of noise."""
    many = VarShareLinear(IN, OUT, n).double()  # n copies of task 1 have n draws of noise at once
    with torch.no_grad():
        for name in ("theta", "bias"):
            getattr(many, name).copy_(getattr(layer, name))
        for name in ("mu", "log_var"):
            getattr(many, name).copy_(getattr(layer, name)[1].expand(n, -1, -1))
        rows = len(x)
        noise = {
            "weights": lambda: weight_noise(many, generator(8)),
            "local": lambda: local_noise(many, n, rows, generator(8)),
        }[kind]()
        return many.prepare(torch.arange(n), noise).apply(x.expand(n, -1, -1))


@pytest.mark.parametrize("kind", ["weights", "local"])
def test_every_row_has_the_posteriors_moments(layer, kind):
    """Mean and variance of each output and the covariance of two, at 4 standard errors: 10 comparisons."""
    x = randn(2, IN, seed=4)
    draws = outputs(layer, x, kind)
    n, mean = len(draws), layer(x, torch.tensor([1, 1]))
    variance = x.square() @ layer.sigma()[1].square().mT
    assert ((draws.mean(0) - mean).abs() <= 4 * (variance / n).sqrt()).all()
    assert ((draws.var(0) - variance).abs() <= 4 * variance * math.sqrt(2 / (n - 1))).all()
    centred = draws - mean
    covariance = centred.prod(-1).mean(0)  # of a row's outputs, whose weights are independent
    assert (covariance.abs() <= 4 * variance.prod(-1).sqrt() / math.sqrt(n)).all()


@pytest.mark.parametrize(("kind", "common"), [("weights", True), ("local", False)])
def test_only_plain_weight_noise_moves_the_rows_together(layer, kind, common):
    x = randn(2, IN, seed=4)
    draws = outputs(layer, x, kind)
    centred = draws - draws.mean(0)
    covariance = (centred[:, 0] * centred[:, 1]).mean(0)
    expected = (x[0] * x[1]) @ layer.sigma()[1].square().mT
    spread = (x.square() @ layer.sigma()[1].square().mT).prod(0).sqrt()
    error = 4 * (spread.square() + expected.square()).sqrt() / math.sqrt(len(draws))
    assert ((covariance - (expected if common else 0.0)).abs() <= error).all()
    assert (expected.abs() > 2 * error).all()  # so that the two cases cannot be mistaken


def test_gradients_are_those_of_differences(layer):
    names = ["theta", "mu", "log_var", "bias"]
    inputs = [randn(6, IN).requires_grad_(), *(getattr(layer, n).detach().clone().requires_grad_() for n in names)]
    noise = LocalNoise(randn(6, OUT, seed=1))

    def forward(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x, TASK, noise))

    assert torch.autograd.gradcheck(forward, inputs)


@pytest.mark.parametrize("kind", ["weights", "local"])
def test_the_estimators_agree_on_the_gradient(layer, kind):
    """E dL/d log σ² of L = ½ Σ y² is ½ σ² x², whatever the noise: within 4 standard errors of 20,000 draws."""
    x = randn(1, IN, seed=4)
    n, many = 20_000, VarShareLinear(IN, OUT, 20_000).double()
    with torch.no_grad():
        many.theta.zero_()
        many.mu.zero_()
        many.log_var.copy_(layer.log_var[1].expand(n, -1, -1))
    noise = {
        "weights": weight_noise(many, generator(8)),
        "local": local_noise(many, n, 1, generator(8)),
    }[kind]
    (0.5 * many.prepare(torch.arange(n), noise).apply(x.expand(n, -1, -1)).square()).sum().backward()
    found, expected = many.log_var.grad, 0.5 * layer.sigma()[1].square() * x.square()
    assert ((found.mean(0) - expected).abs() <= 4 * found.std(0) / math.sqrt(n)).all()
    assert (expected > 0).all()


def test_local_noise_can_be_exchanged(layer):
    x, tasks = randn(3, 5, IN), torch.arange(M)
    first, second = (LocalNoise(randn(3, 5, OUT, seed=seed)) for seed in (1, 2))
    exchanged = layer.prepare(tasks, first).with_noise(second)
    torch.testing.assert_close(exchanged.apply(x), layer.prepare(tasks, second).apply(x))
