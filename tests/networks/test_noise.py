"""Draws of noise, and the three estimators by moments and against one another; Flipout by its definition too."""

import math

import pytest
import torch
from helpers import drawn, generator, perturb, randn

from varshare_pl.networks.noise import flipout_noise, local_noise, weight_noise
from varshare_pl.sharing import FlipoutNoise, LocalNoise, VarShareLinear

M, IN, OUT = 3, 4, 2
TASK = torch.tensor([2, 0, 1, 2, 2, 0])


@pytest.fixture
def layer():
    layer = drawn(VarShareLinear(IN, OUT, M)).double()
    perturb(layer)
    return layer


def draw(layer, rows, seed=1):
    """Noise for (rows,) rows as ``forward`` takes it."""
    eps, *sides = flipout_noise(layer, 1, rows, generator(seed), generator(seed + 1))
    return FlipoutNoise(eps, *(side[0] for side in sides))


def test_by_hand_per_row(layer):
    x, noise = randn(6, IN), draw(layer, 6)
    output = layer(x, TASK, noise)
    for i, m in enumerate(TASK.tolist()):
        flips = torch.outer(noise.sign_out[i], noise.sign_in[i])
        weight = layer.theta + layer.mu[m] + flips * layer.sigma()[m] * noise.eps[m]
        torch.testing.assert_close(output[i], weight @ x[i] + layer.bias)


def test_flipout_draws_signs_and_one_weight_noise_for_each_task(layer):
    noise = flipout_noise(layer, 3, 500, generator(1), generator(2))
    assert torch.equal(noise.eps, weight_noise(layer, generator(1)))
    for side, size in ((noise.sign_in, IN), (noise.sign_out, OUT)):
        assert side.shape == (3, 500, size)
        assert side.dtype == noise.eps.dtype
        assert side.unique().tolist() == [-1.0, 1.0]
        n = side.numel()
        assert abs(side.mean()) <= 4 / math.sqrt(n)
        assert abs((side[:, 1:] * side[:, :-1]).mean()) <= 4 / math.sqrt(n)  # rows are independent
    assert abs((noise.sign_in[..., :OUT] * noise.sign_out).mean()) <= 4 / math.sqrt(3 * 500 * OUT)
    other = flipout_noise(layer, 3, 500, generator(1), generator(3))
    assert torch.equal(other.eps, noise.eps)
    assert not torch.equal(other.sign_in, noise.sign_in)


def test_draws_hang_on_the_generator(layer):
    def draws(seed, global_seed):
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        flipout = flipout_noise(layer, 2, 7, generator(seed), generator(seed + 1))
        drawn = [weight_noise(layer, generator(seed)), *local_noise(layer, 2, 7, generator(seed)), *flipout]
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
            "flipout": lambda: flipout_noise(many, n, rows, generator(8), generator(9)),
        }[kind]()
        return many.prepare(torch.arange(n), noise).apply(x.expand(n, -1, -1))


@pytest.mark.parametrize("kind", ["weights", "local", "flipout"])
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


@pytest.mark.parametrize(("kind", "common"), [("weights", True), ("local", False), ("flipout", False)])
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
    noise = draw(layer, 6)

    def forward(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x, TASK, noise))

    assert torch.autograd.gradcheck(forward, inputs)


@pytest.mark.parametrize("kind", ["weights", "local", "flipout"])
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
        "flipout": flipout_noise(many, n, 1, generator(8), generator(9)),
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
