"""Residuals of low rank: by hand, by moments, against torch.distributions."""

import math

import pytest
import torch
from helpers import drawn, fit, generator, make_policy, perturb, randn
from torch.distributions import Normal, kl_divergence

from varshare_pl.errors import ConfigError
from varshare_pl.networks.noise import local_noise, weight_noise
from varshare_pl.sharing import LayerSpec, LocalNoise, SharedLinear
from varshare_pl.sharing.varshare import VarShareLowRank
from varshare_pl.sharing.varshare.low_rank import LowRankLinear

M, IN, OUT, RANK = 3, 5, 4, 2
TASK = torch.tensor([2, 0, 1, 2, 2, 0])


def make(task_bias=False, **options):
    layer = drawn(LowRankLinear(IN, OUT, M, task_bias=task_bias, **{"rank": RANK, **options})).double()
    perturb(layer)
    return layer


def noises(layer, rows=6):
    """Noise of each kind for (rows,) rows."""
    local = local_noise(layer, 1, rows, generator(1))
    return {
        "mean": None,
        "weights": weight_noise(layer, generator(1)),
        "local": LocalNoise(local.zeta[0]),
    }


kinds = pytest.mark.parametrize("kind", ["mean", "weights", "local"])


def test_start():
    layer = drawn(LowRankLinear(100, 60, M, prior_scale=0.5, initial_sigma=0.3, task_bias=True, rank=4))
    assert layer.prior_std == pytest.approx(0.05)
    assert layer.factor_std == pytest.approx(math.sqrt(0.05 / 2))
    shapes = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    factors = {f"{p}_a": (M, 4, 100) for p in ("mu", "log_var")} | {f"{p}_b": (M, 60, 4) for p in ("mu", "log_var")}
    assert shapes == {"theta": (60, 100), "bias": (60,), "task_bias": (M, 60)} | factors
    assert layer.num_variational == 4 * 160
    assert layer.log_var_parameters() == [layer.log_var_a, layer.log_var_b]
    for log_var in layer.log_var_parameters():
        torch.testing.assert_close(log_var, torch.full_like(log_var, 2 * math.log(0.3 * layer.factor_std)))
    # All tasks start with one net, and yet can leave it.
    x, task = torch.randn(9, 100, generator=generator()), torch.arange(9) % M
    torch.testing.assert_close(layer(x, task), x @ layer.theta.mT)
    layer(x, task).square().sum().backward()
    assert (layer.mu_b.grad.flatten(1).norm(dim=1) > 0).all()
    assert layer.mu_a.std().item() == pytest.approx(layer.factor_std, rel=0.1)


def test_a_narrow_layer_takes_the_rank_that_it_can():
    assert [LowRankLinear(*sizes, M, rank=4).rank for sizes in ((64, 64), (64, 1), (3, 64))] == [4, 1, 3]


def test_the_products_prior_has_the_standard_deviation_of_the_other_layers():
    """Monte Carlo: the variance of each of 20 entries within 4 standard errors, their kurtosis counted."""
    n, layer = 100_000, LowRankLinear(IN, OUT, M, prior_scale=0.7, rank=3)
    a, b = (layer.factor_std * randn(n, *shape, seed=i) for i, shape in enumerate(((3, IN), (OUT, 3))))
    squares = (b @ a).square()
    error = squares.std(0) / math.sqrt(n)
    assert ((squares.mean(0) - layer.prior_std**2).abs() <= 4 * error).all()
    assert (4 * error < 0.05 * layer.prior_std**2).all()


def test_kl_equals_torch_distributions():
    layer = make()
    expected = 0.0
    for mu, log_var in ((layer.mu_a, layer.log_var_a), (layer.mu_b, layer.log_var_b)):
        prior = Normal(torch.zeros_like(mu), torch.full_like(mu, layer.factor_std))
        expected = expected + kl_divergence(Normal(mu, (0.5 * log_var).exp()), prior).flatten(1).sum(1)
    torch.testing.assert_close(layer.kl(), expected, rtol=1e-10, atol=1e-10)
    assert layer.kl().unique().numel() == M


@pytest.mark.parametrize("task_bias", [False, True])
@kinds
def test_outputs_by_hand_per_row(kind, task_bias):
    layer, x = make(task_bias), randn(6, IN)
    noise = noises(layer)[kind]
    output = layer(x, TASK, noise)
    for i, m in enumerate(TASK.tolist()):
        a, b = layer.mu_a[m], layer.mu_b[m]
        sigma_a, sigma_b = (0.5 * layer.log_var_a[m]).exp(), (0.5 * layer.log_var_b[m]).exp()
        bias = layer.bias + (layer.task_bias[m] if task_bias else 0.0)
        if kind == "local":
            zeta = noise.zeta[i]
            h = a @ x[i] + (sigma_a.square() @ x[i].square()).sqrt() * zeta[:RANK]
            y = b @ h + (sigma_b.square() @ h.square()).sqrt() * zeta[RANK:]
            torch.testing.assert_close(output[i], layer.theta @ x[i] + y + bias)
            continue
        if kind != "mean":
            a, b = a + sigma_a * noise[m, :, :IN], b + sigma_b * noise[m, :, IN:].mT
        torch.testing.assert_close(output[i], (layer.theta + b @ a) @ x[i] + bias)


@kinds
def test_gradients_are_those_of_differences(kind):
    layer = make()
    noise = noises(layer)[kind]
    names = [name for name, _ in layer.named_parameters()]
    inputs = [randn(6, IN).requires_grad_(), *(p.detach().clone().requires_grad_() for p in layer.parameters())]

    def forward(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x, TASK, noise))

    assert torch.autograd.gradcheck(forward, inputs)


def draws_of(layer, x, kind, n=40_000):
    """(n, rows, out) of the rows x (rows, in) of task 1 under n draws of noise."""
    many = LowRankLinear(IN, OUT, n, rank=RANK).double()  # n copies of task 1 have n draws of noise at once
    with torch.no_grad():
        for (name, own), theirs in zip(layer.named_parameters(), many.parameters(), strict=True):
            theirs.copy_(own if name in ("theta", "bias") else own[1].expand_as(theirs))
        noise = {
            "weights": lambda: weight_noise(many, generator(8)),
            "local": lambda: local_noise(many, n, len(x), generator(8)),
        }[kind]()
        return many.prepare(torch.arange(n), noise).apply(x.expand(n, -1, -1))


@pytest.mark.parametrize("kind", ["weights", "local"])
def test_every_row_has_the_moments_of_the_product(kind):
    """Mean, and covariances of the outputs, from the law of total variance; 28 comparisons at 4 standard errors."""
    layer, x = make(), randn(2, IN, seed=4)
    draws = draws_of(layer, x, kind)
    n, mean = len(draws), layer(x, torch.tensor([1, 1]))
    h = x @ layer.mu_a[1].mT
    var_h = x.square() @ layer.log_var_a[1].exp().mT
    b, var_b = layer.mu_b[1], layer.log_var_b[1].exp()
    centred = draws - mean
    assert ((draws.mean(0) - mean).abs() <= 4 * draws.std(0) / math.sqrt(n)).all()
    # Given h the outputs are independent with variances σ_B² h²; and B̄ h has the covariance B̄ diag(Var h) B̄ᵀ.
    for row in range(2):
        expected = b @ torch.diag(var_h[row]) @ b.mT + torch.diag(var_b @ (h[row].square() + var_h[row]))
        products = centred[:, row, :, None] * centred[:, row, None, :]
        assert ((products.mean(0) - expected).abs() <= 4 * products.std(0) / math.sqrt(n)).all()


@pytest.mark.parametrize(("kind", "common"), [("weights", True), ("local", False)])
def test_only_plain_weight_noise_moves_the_rows_together(kind, common):
    layer, x = make(), randn(1, IN, seed=4).expand(2, -1)
    centred = draws_of(layer, x, kind) - layer(x, torch.tensor([1, 1]))
    products = centred.prod(1)
    z = products.mean(0) / (products.std(0) / math.sqrt(len(products)))
    assert (z > 20).all() if common else (z.abs() <= 4).all()


def test_sigma_is_that_of_the_products_entries():
    """Exact by the formula for one pair of factors, and by Monte Carlo within 4 standard errors."""
    layer, n = make(), 50_000
    a = layer.mu_a[1] + (0.5 * layer.log_var_a[1]).exp() * randn(n, RANK, IN, seed=1)
    b = layer.mu_b[1] + (0.5 * layer.log_var_b[1]).exp() * randn(n, OUT, RANK, seed=2)
    squares = ((b @ a) - layer.residuals()[1]).square()
    assert ((squares.mean(0) - layer.sigma()[1].square()).abs() <= 4 * squares.std(0) / math.sqrt(n)).all()
    single = make(rank=1)
    var_a, var_b = single.log_var_a.exp(), single.log_var_b.exp()
    expected = (single.mu_a.square() + var_a) * (single.mu_b.square() + var_b) - (single.mu_a * single.mu_b).square()
    torch.testing.assert_close(single.sigma().square(), expected)


def test_metrics_take_the_product_of_the_means():
    layer = make(task_bias=True)
    theta, mu = layer.shared_and_residual()
    torch.testing.assert_close(mu.mean(0), torch.zeros_like(theta))
    products = torch.einsum("mor,mri->moi", layer.mu_b, layer.mu_a)
    torch.testing.assert_close(theta + mu, layer.theta + products)
    shared = layer.prepare_shared(torch.arange(M))
    torch.testing.assert_close(shared.weight[0], theta)
    torch.testing.assert_close(shared.bias, layer.bias + layer.task_bias.mean(0))


def test_local_noise_can_be_exchanged():
    layer, x, tasks = make(), randn(M, 5, IN), torch.arange(M)
    first, second = (local_noise(layer, M, 5, generator(seed)) for seed in (1, 2))
    exchanged = layer.prepare(tasks, first).with_noise(second)
    torch.testing.assert_close(exchanged.apply(x), layer.prepare(tasks, second).apply(x))


def test_the_method_makes_them_where_layers_says():
    method = VarShareLowRank(rank=3, layers="last 1", task_bias=True)
    made = [method.make_layer(LayerSpec(name, i, 9, 5, M, 2)) for i, name in enumerate(("layer_1", "head"))]
    assert [type(layer) for layer in made] == [SharedLinear, LowRankLinear]
    assert made[1].rank == 3
    assert made[1].task_bias is not None
    policy = make_policy("ComplexCartPole", VarShareLowRank(rank=2))
    assert policy.num_variational == sum(layer.num_variational for *_, layer in policy.layers())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"rank": 0}, "rank: 0 is not allowed; a positive integer is"),
        ({"prior_scale": -1.0}, "prior_scale: -1.0 is not allowed"),
        ({"initial_sigma": 0.0}, "initial_sigma: 0.0 is not allowed"),
    ],
)
def test_what_is_refused(options, text):
    with pytest.raises(ConfigError, match=rf"^model\.sharing\.init_args\.{text}") as caught:
        fit({"total_env_steps": 128}, sharing=VarShareLowRank(**options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("noise", [{}, {"actor_noise": "stored"}, {"critic_noise": "weights"}], ids=str)
def test_whole_runs_start_at_a_ratio_of_1(noise):
    run = fit(sharing=VarShareLowRank(prior_scale=1.0, rank=2), **noise)
    assert all(record.metrics["diagnostics/first_ratio_deviation"] <= 1e-6 for record in run.records)
    assert run.records[-1].metrics["sharing/sigma"] > 0
