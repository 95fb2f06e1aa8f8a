"""Residuals without noise, and biases of the tasks, by hand."""

import pytest
import torch
from helpers import drawn, generator, perturb, randn
from torch.distributions import Normal, kl_divergence

from varshare_pl.errors import ConfigError
from varshare_pl.networks.gaussian import mean_to_prior
from varshare_pl.networks.noise import local_noise, weight_noise
from varshare_pl.sharing import LocalNoise, VariationalLayer, VarShareLinear
from varshare_pl.sharing.varshare.learned_prior import LearnedPriorLinear
from varshare_pl.sharing.varshare.residual import ResidualLinear

M, IN, OUT = 3, 4, 2
KINDS = [ResidualLinear, VarShareLinear, LearnedPriorLinear]


def make(cls=ResidualLinear, **options):
    layer = drawn(cls(IN, OUT, M, **options)).double()
    perturb(layer)
    return layer


def test_parameter_names_and_shapes():
    shapes = {name: tuple(p.shape) for name, p in make(task_bias=True).named_parameters()}
    assert shapes == {"theta": (OUT, IN), "mu": (M, OUT, IN), "bias": (OUT,), "task_bias": (M, OUT)}
    assert "task_bias" not in make().state_dict()
    assert make().num_variational == OUT * IN  # so that the penalty's weight is that of VarShare


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_bad_options_raise(value):
    with pytest.raises(ConfigError, match="prior_scale"):
        make(prior_scale=value)


@pytest.mark.parametrize("cls", KINDS)
@pytest.mark.parametrize("task_bias", [False, True])
def test_outputs_by_hand_per_row(cls, task_bias):
    layer = make(cls, task_bias=task_bias)
    x, task = randn(6, IN), torch.tensor([2, 0, 2, 2, 2, 0])
    for tasks in (task, torch.tensor([2, 0, 1, 2, 2, 0])):
        output = layer(x, tasks)
        for i, m in enumerate(tasks.tolist()):
            bias = layer.bias + (layer.task_bias[m] if task_bias else 0.0)
            torch.testing.assert_close(output[i], (layer.theta + layer.mu[m]) @ x[i] + bias)


def test_there_is_no_noise():
    layer = make()
    x, task = randn(4, IN), torch.tensor([2, 0, 1, 2])
    assert weight_noise(layer, generator()) is None
    assert local_noise(layer, 2, 3, generator(1)) is None
    assert not isinstance(layer, VariationalLayer)
    for noise in (randn(M, OUT, IN), LocalNoise(randn(4, OUT))):
        assert torch.equal(layer(x, task, noise), layer(x, task))


def test_penalty_is_the_means_part_of_the_kl():
    """The KL less that of the same posterior with μ = 0, whatever σ is."""
    mu, sigma, prior_std = 0.3 * randn(M, OUT, IN), 0.2, 0.05

    def kl(mean):
        posterior = Normal(mean, torch.full_like(mean, sigma))
        return kl_divergence(posterior, Normal(torch.zeros_like(mean), prior_std)).flatten(1).sum(1)

    torch.testing.assert_close(mean_to_prior(mu, prior_std), kl(mu) - kl(torch.zeros_like(mu)))
    layer = make()
    torch.testing.assert_close(layer.kl(), mean_to_prior(layer.mu, layer.prior_std))
    assert layer.prior_std == pytest.approx(0.05)
    assert not drawn(ResidualLinear(IN, OUT, M)).kl().any()  # at the start


def test_penalty_pulls_to_zero():
    layer = make()
    layer.kl().sum().backward()
    torch.testing.assert_close(layer.mu.grad, layer.mu.detach() / layer.prior_std**2)
    assert torch.autograd.gradcheck(lambda mu: mean_to_prior(mu, 0.2), randn(2, 2, 3).requires_grad_())


@pytest.mark.parametrize("cls", KINDS)
def test_task_biases_start_at_zero_and_learn_apart(cls):
    layer = drawn(cls(IN, OUT, M, task_bias=True)).double()
    assert not layer.task_bias.any()
    plain = cls(IN, OUT, M).double()
    plain.load_state_dict({k: v for k, v in layer.state_dict().items() if k != "task_bias"})
    x, task = randn(3, IN), torch.tensor([2, 2, 0])
    assert torch.equal(layer(x, task), plain(x, task))
    layer(x, task).sum().backward()
    assert layer.task_bias.grad.tolist() == [[1.0, 1.0], [0.0, 0.0], [2.0, 2.0]]
    perturb(layer)
    drawn(layer)
    assert not layer.task_bias.any()
    assert not layer.mu.any()


def test_task_biases_cost_nothing_and_average_in_the_shared_net():
    layer = make(VarShareLinear, task_bias=True)
    kl = layer.kl().detach()
    with torch.no_grad():
        layer.task_bias += 1.0
    assert torch.equal(layer.kl(), kl)
    prepared = layer.prepare_shared(torch.arange(M))
    torch.testing.assert_close(prepared.bias, layer.bias + layer.task_bias.mean(0))
    output = prepared.apply(randn(M, 5, IN))
    assert output.shape == (M, 5, OUT)
