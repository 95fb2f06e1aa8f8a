"""Parameter groups, clipping, annealing, and whether σ gets where theory says."""

import math

import pytest
import torch
from helpers import METHODS, make_policy, randn

from varshare_pl.errors import NonFiniteError
from varshare_pl.learning.optimizer import anneal, build_optimizer, clip_gradients

ARGS = {"lr_actor": 1e-3, "lr_critic": 2e-3, "lr_log_var": None, "eps": 1e-5, "eps_log_var": 1e-8}


def groups_of(policy, **changes):
    return {group["name"]: group for group in build_optimizer(policy, **ARGS | changes).param_groups}


def names_in(policy, group):
    """The parameters whose memory a group's vector covers, which they fill."""
    (vector,) = group["params"]
    start, end = vector.data_ptr(), vector.data_ptr() + vector.numel() * vector.element_size()
    inside = {name: p for name, p in policy.named_parameters() if start <= p.data_ptr() < end}
    assert sum(p.numel() for p in inside.values()) == vector.numel()
    return set(inside)


def test_groups():
    policy = make_policy("MirroredCartPole")
    groups = groups_of(policy)
    assert {name: (g["lr"], g["eps"]) for name, g in groups.items()} == {
        "actor": (1e-3, 1e-5),
        "actor_log_var": (1e-3, 1e-8),
        "critic": (2e-3, 1e-5),
        "critic_log_var": (2e-3, 1e-8),
    }
    for name, group in groups.items():
        network, _, log_var = name.partition("_")
        expected = {
            n for n, _ in policy.named_parameters() if n.startswith(network) and n.endswith("log_var") == bool(log_var)
        }
        assert names_in(policy, group) == expected


def test_rate_of_log_var():
    groups = groups_of(make_policy("MirroredCartPole"), lr_log_var=7e-3)
    assert [groups[n]["lr"] for n in ("actor", "critic", "actor_log_var", "critic_log_var")] == [1e-3, 2e-3, 7e-3, 7e-3]


@pytest.mark.parametrize("method", ["shared", "shared_onehot", "independent"])
def test_deterministic_methods_have_two_groups(method):
    policy = make_policy("MirroredCartPole", METHODS[method]())
    groups = groups_of(policy)
    assert list(groups) == ["actor", "critic"]
    assert set.union(*(names_in(policy, group) for group in groups.values())) == {
        n for n, _ in policy.named_parameters()
    }


def test_anneal_starts_from_the_initial_rates_each_time():
    optimizer = build_optimizer(make_policy("MirroredCartPole"), **ARGS | {"lr_log_var": 4e-3})
    for fraction in (0.5, 0.25, 1.0, 0.0):
        anneal(optimizer, fraction)
        assert [g["lr"] for g in optimizer.param_groups] == pytest.approx(
            [1e-3 * fraction, 4e-3 * fraction, 2e-3 * fraction, 4e-3 * fraction]
        )


def norm(module):
    return torch.stack([p.grad.norm() for p in module.parameters()]).norm().item()


def with_gradients():
    policy = make_policy("MirroredCartPole")
    optimizer = build_optimizer(policy, **ARGS)
    for torso, size in ((policy.actor, 1.0), (policy.critic, 0.001)):
        for p in torso.parameters():
            p.grad.fill_(size)
    return policy, optimizer


def test_actor_and_critic_are_clipped_apart():
    policy, optimizer = with_gradients()
    actor, critic = norm(policy.actor), norm(policy.critic)
    assert critic < 0.5 < actor
    norms = clip_gradients(optimizer, 0.5)
    assert norms == pytest.approx((actor, critic))  # those before clipping
    assert norm(policy.actor) == pytest.approx(0.5, rel=1e-4)
    assert norm(policy.critic) == pytest.approx(critic)  # a large actor gradient does not shrink the critic's


def test_no_clipping():
    policy, optimizer = with_gradients()
    before = norm(policy.actor)
    norms = clip_gradients(optimizer, None)
    assert norms[0] == pytest.approx(before)
    assert norm(policy.actor) == pytest.approx(before)


@pytest.mark.parametrize("method", METHODS)
def test_clipping_equals_torchs(method):
    policy = make_policy("MirroredCartPole", METHODS[method]())
    optimizer = build_optimizer(policy, **ARGS)
    for max_norm in (1e-3, 3.0, 1e9):
        for k, p in enumerate(policy.parameters()):
            p.grad.copy_(randn(*p.shape, seed=k))
        plain = {name: [p.grad.clone() for p in torso.parameters()] for name, torso in policy.networks()}
        norms = clip_gradients(optimizer, max_norm)
        for (name, torso), found in zip(policy.networks(), norms, strict=True):
            copies = [torch.nn.Parameter(torch.zeros_like(g)) for g in plain[name]]
            for copy, gradient in zip(copies, plain[name], strict=True):
                copy.grad = gradient
            assert found == pytest.approx(torch.nn.utils.clip_grad_norm_(copies, max_norm).item(), rel=1e-6)
            torch.testing.assert_close([p.grad for p in torso.parameters()], [c.grad for c in copies])


@pytest.mark.parametrize(("network", "bad"), [("actor", math.nan), ("critic", math.inf)])
def test_a_gradient_that_is_not_finite(network, bad):
    policy, optimizer = with_gradients()
    next(getattr(policy, network).parameters()).grad.view(-1)[0] = bad
    for loss_scale in (None, 0.5):
        with pytest.raises(NonFiniteError, match=f"the gradient of the {network} is not finite"):
            clip_gradients(optimizer, 0.5, loss_scale)
    norms = clip_gradients(optimizer, 0.5, 1024.0)  # no fault: the scaler skips the step
    assert [math.isfinite(n) for n in norms] == [network == "critic", network == "actor"]


def train_on_a_quadratic(eps_log_var, beta=0.1, curvatures=(0.0, 500.0, 5000.0), target=0.05, steps=600):
    """Minimise E[½ h (φ − a)²] + β KL per weight, scaled as the real objective is: by 1 / (M P).

    Each of the actor's three layers has a curvature h. Returns σ and μ of the layers beside σ_p and h.
    """
    policy = make_policy("MirroredCartPole", hidden_sizes=(64, 64))
    optimizer = build_optimizer(policy, **ARGS | {"lr_actor": 1e-2, "eps_log_var": eps_log_var})
    layers = [layer for _, layer in policy.actor.layers()]
    for _ in range(steps):
        loss = sum(
            0.5 * h * ((layer.mu - target).square() + layer.log_var.exp()).flatten(1).sum(1) + beta * layer.kl()
            for h, layer in zip(curvatures, layers, strict=True)
        )
        optimizer.zero_grad()
        (loss.mean() / policy.num_variational).backward()
        optimizer.step()
    results = [(layer.prior_std, layer.sigma().detach(), layer.mu.detach()) for layer in layers]
    return [(h, *result) for h, result in zip(curvatures, results, strict=True)]


def test_sigma_and_mu_reach_the_analytic_optimum():
    """σ*² = σ_p² β / (β + h σ_p²), from the prior where flat to √(β/h) where sharp; μ* = a h / (h + β/σ_p²)."""
    beta, target = 0.1, 0.05
    shares = []
    for h, prior_std, sigma, mu in train_on_a_quadratic(1e-8):
        best = prior_std * math.sqrt(beta / (beta + h * prior_std**2))
        torch.testing.assert_close(sigma, torch.full_like(sigma, best), rtol=0.02, atol=0)
        shrunk = target * h / (h + beta / prior_std**2)
        torch.testing.assert_close(mu, torch.full_like(mu, shrunk), rtol=0.05, atol=1e-3)
        shares.append(best / prior_std)
    assert shares[0] == 1.0
    assert 0.6 < shares[1] < 0.9
    assert shares[2] < 0.4


def test_adams_usual_epsilon_freezes_sigma():
    """The gradient of log_var is about 1e-6: with eps 1e-5 σ hardly leaves its start, ½ σ_p, in the flat layer."""
    (_, prior_std, frozen, _), *_ = train_on_a_quadratic(1e-5, steps=100)
    (_, _, moved, _), *_ = train_on_a_quadratic(1e-8, steps=100)
    assert (frozen / prior_std).max() < 0.6
    assert (moved / prior_std).min() > 0.75
