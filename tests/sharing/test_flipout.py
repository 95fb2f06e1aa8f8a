"""Flipout against its definition, by moments, and against the two other estimators."""

import math

import pytest
import torch
from helpers import generator, perturb, randn

from varshare_pl.random import array_stream, signs
from varshare_pl.sharing import FlipoutNoise, LocalNoise, SharedLinear, VarShareLinear

M, IN, OUT = 3, 4, 2
TASK = torch.tensor([2, 0, 1, 2, 2, 0])


@pytest.fixture
def layer():
    layer = VarShareLinear(IN, OUT, M).double()
    perturb(layer)
    return layer


def draw(layer, rows, seed=1):
    """Noise for (rows,) rows as ``forward`` takes it."""
    eps, *sides = layer.draw_flipout_noise(1, rows, generator(seed), array_stream(seed, "a"))
    return FlipoutNoise(eps, *(side[0] for side in sides))


def test_by_hand_per_row(layer):
    x, noise = randn(6, IN), draw(layer, 6)
    output = layer(x, TASK, noise)
    for i, m in enumerate(TASK.tolist()):
        flips = torch.outer(noise.sign_out[i], noise.sign_in[i])
        weight = layer.theta + layer.mu[m] + flips * layer.sigma()[m] * noise.eps[m]
        torch.testing.assert_close(output[i], weight @ x[i] + layer.bias)


def test_draws_are_signs_and_one_weight_noise_for_each_task(layer):
    noise = layer.draw_flipout_noise(3, 500, generator(1), array_stream(1, "a"))
    assert torch.equal(noise.eps, layer.draw_weight_noise(generator(1)))
    for side, size in ((noise.sign_in, IN), (noise.sign_out, OUT)):
        assert side.shape == (3, 500, size)
        assert side.dtype == noise.eps.dtype
        assert side.unique().tolist() == [-1.0, 1.0]
        assert abs(side.mean()) <= 4 / math.sqrt(side.numel())
    other = layer.draw_flipout_noise(3, 500, generator(1), array_stream(2, "a"))
    assert torch.equal(other.eps, noise.eps)
    assert not torch.equal(other.sign_in, noise.sign_in)
    assert SharedLinear(IN, OUT, M).draw_flipout_noise(1, 2, generator(), array_stream(1, "a")) is None


def test_signs_of_any_number():
    for size in (1, 7, 64, 65, 1000):
        drawn = signs((size,), array_stream(3, "a"))
        assert drawn.shape == (size,)
        assert drawn.abs().eq(1).all()
    pairs = signs((2, 100_000), array_stream(3, "a"))
    assert abs(pairs.mean()) <= 4 / math.sqrt(200_000)
    assert abs((pairs[0] * pairs[1]).mean()) <= 4 / math.sqrt(100_000)
    assert abs((pairs[0, 1:] * pairs[0, :-1]).mean()) <= 4 / math.sqrt(100_000)


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
            "weights": lambda: many.draw_weight_noise(generator(8)),
            "local": lambda: many.draw_local_noise(n, rows, array_stream(8, "a")),
            "flipout": lambda: many.draw_flipout_noise(n, rows, generator(8), array_stream(8, "a")),
        }[kind]()
        return many.compute(many.prepare(torch.arange(n), noise), x.expand(n, -1, -1))


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
        "weights": many.draw_weight_noise(generator(8)),
        "local": many.draw_local_noise(n, 1, array_stream(8, "a")),
        "flipout": many.draw_flipout_noise(n, 1, generator(8), array_stream(8, "a")),
    }[kind]
    (0.5 * many.compute(many.prepare(torch.arange(n), noise), x.expand(n, -1, -1)).square()).sum().backward()
    found, expected = many.log_var.grad, 0.5 * layer.sigma()[1].square() * x.square()
    assert ((found.mean(0) - expected).abs() <= 4 * found.std(0) / math.sqrt(n)).all()
    assert (expected > 0).all()


def test_local_noise_can_be_exchanged(layer):
    x, tasks = randn(3, 5, IN), torch.arange(M)
    first, second = (LocalNoise(randn(3, 5, OUT, seed=seed)) for seed in (1, 2))
    exchanged = layer.prepare(tasks, first).with_noise(second)
    torch.testing.assert_close(layer.compute(exchanged, x), layer.compute(layer.prepare(tasks, second), x))
