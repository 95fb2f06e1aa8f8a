"""VarShareLinear by hand."""

import math

import pytest
import torch
from helpers import drawn, perturb, randn

from varshare_pl.errors import ConfigError
from varshare_pl.sharing import LayerSpec, LocalNoise, VarShare, VarShareLinear

M, IN, OUT = 3, 4, 2


@pytest.fixture
def layer():
    layer = drawn(VarShareLinear(IN, OUT, M)).double()
    perturb(layer)
    return layer


def test_parameter_names_and_shapes(layer):
    shapes = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    assert shapes == {"theta": (OUT, IN), "mu": (M, OUT, IN), "log_var": (M, OUT, IN), "bias": (OUT,)}
    assert set(layer.state_dict()) == set(shapes)
    assert layer.log_var_parameters() == [layer.log_var]
    assert layer.num_variational == OUT * IN


def test_start():
    layer = drawn(VarShareLinear(25, 6, M))
    assert layer.prior_std == pytest.approx(0.1 / 5)
    torch.testing.assert_close(layer.sigma(), torch.full((M, 6, 25), 0.5 * 0.1 / 5))
    assert not layer.mu.any()
    assert not layer.bias.any()
    torch.testing.assert_close(layer.theta @ layer.theta.mT, torch.eye(6))
    assert VarShareLinear(25, 6, M, prior_scale=2.0).prior_std == pytest.approx(0.4)
    torch.testing.assert_close(drawn(VarShareLinear(25, 6, M, 2.0, 0.25)).sigma(), torch.full((M, 6, 25), 0.1))


def test_method_hands_its_options_to_the_layers():
    layer = drawn(VarShare(prior_scale=0.3, initial_sigma=0.2).make_layer(LayerSpec("head", 2, 9, 5, M)))
    assert layer.prior_std == pytest.approx(0.1)
    assert layer.sigma()[0, 0, 0].item() == pytest.approx(0.02)


@pytest.mark.parametrize("option", ["prior_scale", "initial_sigma"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_bad_options_raise(option, value):
    with pytest.raises(ConfigError, match=option):
        VarShareLinear(IN, OUT, M, **{option: value})


def test_weights_by_hand_per_row(layer):
    """W = θ + μ_m + σ_m ε_m and y = W x + b, spelt out for each row."""
    x, task, eps = randn(6, IN), torch.tensor([2, 0, 1, 2, 2, 0]), randn(M, OUT, IN, seed=1)
    output = layer(x, task, eps)
    mean = layer(x, task)
    for i, m in enumerate(task.tolist()):
        for o in range(OUT):
            y = layer.bias[o] + sum(
                (layer.theta[o, j] + layer.mu[m, o, j] + (0.5 * layer.log_var[m, o, j]).exp() * eps[m, o, j]) * x[i, j]
                for j in range(IN)
            )
            torch.testing.assert_close(output[i, o], y)
            y = layer.bias[o] + sum((layer.theta[o, j] + layer.mu[m, o, j]) * x[i, j] for j in range(IN))
            torch.testing.assert_close(mean[i, o], y)


def test_local_reparameterisation_by_hand_per_row(layer):
    x, task, zeta = randn(6, IN), torch.tensor([2, 0, 1, 2, 2, 0]), randn(6, OUT, seed=1)
    output, mean = layer(x, task, LocalNoise(zeta)), layer(x, task)
    for i, m in enumerate(task.tolist()):
        for o in range(OUT):
            variance = sum(layer.log_var[m, o, j].exp() * x[i, j] ** 2 for j in range(IN))
            torch.testing.assert_close(output[i, o], mean[i, o] + variance.sqrt() * zeta[i, o])


@pytest.mark.parametrize("kind", ["mean", "weights", "local"])
def test_gradients(layer, kind):
    task = torch.tensor([2, 0, 2])
    noise = {"mean": None, "weights": randn(M, OUT, IN, seed=1), "local": LocalNoise(randn(3, OUT, seed=2))}[kind]
    names = ["theta", "mu", "log_var", "bias"]
    inputs = [randn(3, IN).requires_grad_(), *(getattr(layer, n).detach().clone().requires_grad_() for n in names)]

    def forward(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x, task, noise))

    assert torch.autograd.gradcheck(forward, inputs)


def test_noise_reaches_log_var(layer):
    """Sampled and local noise give log_var a gradient; the posterior mean gives none."""
    x, task = randn(3, IN), torch.tensor([0, 1, 2])
    for noise, reached in ((None, False), (randn(M, OUT, IN), True), (LocalNoise(randn(3, OUT)), True)):
        layer.zero_grad()
        layer(x, task, noise).sum().backward()
        assert (layer.log_var.grad is not None and bool(layer.log_var.grad.any())) == reached


def test_gauge_shift_changes_no_output(layer):
    x, task, eps = randn(6, IN), torch.tensor([2, 0, 1, 2, 2, 0]), randn(M, OUT, IN, seed=1)
    local = LocalNoise(randn(6, OUT, seed=2))
    group_task = torch.arange(M)

    def outputs():
        shared = layer.prepare_shared(group_task)
        return [layer(x, task), layer(x, task, eps), layer(x, task, local), shared.weight, *layer.shared_and_residual()]

    before = [t.detach().clone() for t in outputs()]
    kl = layer.kl().detach()
    shift = randn(OUT, IN, seed=9)
    with torch.no_grad():
        layer.theta += shift
        layer.mu -= shift
    torch.testing.assert_close(outputs(), before)
    assert not torch.allclose(layer.kl(), kl)  # the prior, and only it, sees the gauge


def test_repr_names_sizes_and_prior(layer):
    assert "in_features=4, out_features=2, num_tasks=3, prior_std=0.05" in repr(layer)
