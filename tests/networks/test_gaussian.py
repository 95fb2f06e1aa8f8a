"""The posterior's formulas against torch.distributions, by hand and by Monte Carlo."""

import math

import pytest
import torch
from helpers import generator, randn
from torch.distributions import Normal, kl_divergence

from varshare_pl.networks.gaussian import deviations, kl_to_prior, local_output, mean_to_prior

# Monte Carlo checks allow 4 standard errors: one comparison fails by chance with probability 6e-5. Seeds are fixed, so
# a test that passes once passes always; with new seeds one of this file's 30 comparisons fails in 2 of 1,000 cases.
STANDARD_ERRORS = 4.0


def posterior(tasks=3, out=5, inputs=4, seed=0):
    mu = 0.3 * randn(tasks, out, inputs, seed=seed)
    log_var = -3.0 + randn(tasks, out, inputs, seed=seed + 1)
    return mu, log_var


def kl_reference(mu, log_var, prior_std):
    prior = Normal(torch.zeros_like(mu), torch.full_like(mu, prior_std))
    return kl_divergence(Normal(mu, (0.5 * log_var).exp()), prior).flatten(1).sum(1)


@pytest.mark.parametrize("prior_std", [0.0125, 0.1, 1.0, 3.0])
def test_kl_equals_torch_distributions(prior_std):
    mu, log_var = posterior()
    log_var += 2 * math.log(prior_std)
    kl = kl_to_prior(mu, log_var, prior_std)
    torch.testing.assert_close(kl, kl_reference(mu, log_var, prior_std), rtol=1e-10, atol=1e-10)
    assert (kl > 0).all()


def test_kl_by_hand():
    # One weight: σ = σ_p / 2 and μ = 3 σ_p.
    kl = kl_to_prior(torch.tensor([[[0.6]]]), torch.tensor([[[2 * math.log(0.1)]]]), 0.2)
    assert kl.item() == pytest.approx(0.5 * (0.25 + 9.0 - 1.0 - math.log(0.25)), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("distance", [0.0, 1e-6, 1e-4, 1e-3, 1e-2])
def test_kl_near_the_prior_is_small_positive_and_exact(dtype, distance):
    """No epsilon in the log and no cancellation: the KL of 4,096 weights stays exact where it is nearly 0."""
    prior_std = 0.0125
    log_var = torch.full((1, 64, 64), 2 * math.log(prior_std), dtype=dtype)
    log_var = log_var + (distance * randn(1, 64, 64)).to(dtype)
    kl = kl_to_prior(torch.zeros_like(log_var), log_var, prior_std)
    offset = log_var.double() - 2 * math.log(prior_std)
    exact = 0.5 * (torch.expm1(offset) - offset).sum()
    assert kl.item() >= 0
    assert kl.item() == pytest.approx(exact.item(), rel=2e-3, abs=1e-8)


def test_kl_counts_every_task_apart():
    mu, log_var = posterior()
    changed = mu.clone()
    changed[1] += 1.0
    before, after = kl_to_prior(mu, log_var, 0.1), kl_to_prior(changed, log_var, 0.1)
    assert (before == after).tolist() == [True, False, True]


def test_kl_gradient():
    mu, log_var = (t.requires_grad_() for t in posterior(2, 2, 3))
    assert torch.autograd.gradcheck(lambda m, v: kl_to_prior(m, v, 0.2), (mu, log_var))
    # By hand: μ/σ_p² and ½ (σ²/σ_p² − 1), weighed by task.
    of_task = torch.tensor([2.0, -3.0]).double()
    (kl_to_prior(mu, log_var, 0.2) * of_task).sum().backward()
    weight = of_task[:, None, None]
    torch.testing.assert_close(mu.grad, weight * mu.detach() / 0.04)
    torch.testing.assert_close(log_var.grad, weight * 0.5 * (log_var.detach().exp() / 0.04 - 1))


def test_kl_to_a_prior_that_is_learned():
    """A tensor in the place of a number gives the same KL, and has a gradient; by hand it is Σ 1 − (σ² + μ²)/σ_p²."""
    mu, log_var = (t.requires_grad_() for t in posterior(2, 2, 3))
    log_std = torch.tensor(-1.3, dtype=torch.float64, requires_grad=True)
    kl = kl_to_prior(mu, log_var, log_std.exp())
    torch.testing.assert_close(kl, kl_to_prior(mu, log_var, math.exp(-1.3)))
    (gradient,) = torch.autograd.grad(kl.sum(), log_std)
    torch.testing.assert_close(gradient, (1 - (log_var.exp() + mu.square()) / math.exp(-2.6)).sum().detach())
    assert torch.autograd.gradcheck(lambda m, v, s: kl_to_prior(m, v, s.exp()), (mu, log_var, log_std))


def test_the_means_part_is_what_the_kl_has_more_than_at_a_mean_of_0():
    mu, log_var = posterior()
    expected = kl_reference(mu, log_var, 0.05) - kl_reference(torch.zeros_like(mu), log_var, 0.05)
    torch.testing.assert_close(mean_to_prior(mu, 0.05), expected)
    assert torch.autograd.gradcheck(lambda mu: mean_to_prior(mu, 0.2), mu.requires_grad_())


def test_deviations_by_hand():
    eps, log_var = torch.tensor([[[-2.0]]]), torch.tensor([[[2 * math.log(0.5)]]])
    assert deviations(log_var, eps).item() == pytest.approx(-1.0)


def assert_moments(draws, mean, variance):
    """Mean and variance of normal draws (n, …) within 4 standard errors."""
    n = len(draws)
    assert ((draws.mean(0) - mean).abs() <= STANDARD_ERRORS * (variance / n).sqrt()).all()
    assert ((draws.var(0) - variance).abs() <= STANDARD_ERRORS * variance * math.sqrt(2 / (n - 1))).all()


def both_estimators(n=20_000):
    """The same row through the layer n times, by weight sampling and by local reparameterisation."""
    mu, log_var = posterior(tasks=1)
    shared, x = randn(5, 4, seed=3), randn(4, seed=4)
    mean_weight = (mu + shared).squeeze(0)
    eps = torch.randn(n, 5, 4, generator=generator(5), dtype=torch.float64)
    by_weights = (mean_weight + deviations(log_var.expand(n, -1, -1), eps)) @ x
    zeta = torch.randn(1, n, 5, generator=generator(6), dtype=torch.float64)
    rows = x.expand(1, n, 4)
    by_rows = local_output(rows @ mean_weight.mT, rows, log_var.exp(), zeta).squeeze(0)
    return by_weights, by_rows, mean_weight @ x, log_var.exp().squeeze(0) @ x.square()


def test_weight_sampling_has_the_analytic_moments():
    by_weights, _, mean, variance = both_estimators()
    assert_moments(by_weights, mean, variance)


def test_local_reparameterisation_has_the_analytic_moments():
    _, by_rows, mean, variance = both_estimators()
    assert_moments(by_rows, mean, variance)


def test_the_two_estimators_agree():
    a, b, _, variance = both_estimators()
    n = len(a)
    assert ((a.mean(0) - b.mean(0)).abs() <= STANDARD_ERRORS * (2 * variance / n).sqrt()).all()
    assert ((a.var(0) - b.var(0)).abs() <= STANDARD_ERRORS * variance * math.sqrt(4 / (n - 1))).all()


def test_weight_noise_is_common_to_the_rows_and_local_noise_is_not():
    """What separates the estimators: under weight sampling the rows of a batch move together."""
    mu, log_var = posterior(tasks=1)
    x = randn(4, seed=4).expand(1, 2, 4)
    zeta = randn(1, 2, 5, seed=6)
    by_rows = local_output(x @ mu.mT, x, log_var.exp(), zeta)
    by_weights = x @ (mu + deviations(log_var, randn(1, 5, 4, seed=7))).mT
    assert not torch.allclose(by_rows[0, 0], by_rows[0, 1])
    torch.testing.assert_close(by_weights[0, 0], by_weights[0, 1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_local_output_of_a_zero_row_is_the_mean_with_finite_gradients(dtype):
    x = torch.zeros(1, 1, 4, dtype=dtype, requires_grad=True)
    log_var = torch.zeros(1, 5, 4, dtype=dtype, requires_grad=True)
    mean = torch.ones(1, 1, 5, dtype=dtype)
    output = local_output(mean, x, log_var.exp(), torch.ones(1, 1, 5, dtype=dtype))
    output.sum().backward()
    torch.testing.assert_close(output, mean)
    assert x.grad.isfinite().all()
    assert log_var.grad.isfinite().all()
