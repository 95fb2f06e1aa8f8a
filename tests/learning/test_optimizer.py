"""Parameter groups, steps, clipping, annealing, and whether σ gets where theory says."""

import copy
import io
import math
from dataclasses import replace

import pytest
import torch
from helpers import METHODS, make_policy, perturb, randn, weights_of

from varshare_pl.errors import NonFiniteError
from varshare_pl.learning import optimizer as optimizer_module
from varshare_pl.learning.optimizer import anneal, build_optimizer, clip_gradients
from varshare_pl.learning.options import OptimizerOptions
from varshare_pl.sharing import Shared

OPTIONS = OptimizerOptions(lr_actor=1e-3, lr_critic=2e-3, adam_eps=1e-5, adam_eps_log_var=1e-8)


def groups_of(policy, **changes):
    return {group["name"]: group for group in build_optimizer(policy, replace(OPTIONS, **changes)).param_groups}


def names_in(policy, group):
    members = {id(p) for p in group["params"]}
    return {name for name, p in policy.named_parameters() if id(p) in members}


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
        assert len(group["params"]) == len(expected)


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


def test_what_stands_behind_the_critic_is_trained_with_it():
    policy = make_policy("MirroredCartPole", Shared(), normalize_returns="task", popart=True)
    groups = groups_of(policy)
    assert names_in(policy, groups["critic"]) >= {"popart.scale", "popart.shift"}
    assert not any(name.startswith("popart") for name in names_in(policy, groups["actor"]))


def test_a_frozen_parameter_is_in_no_group():
    policy = make_policy("MirroredCartPole")
    frozen = {"actor.stack.head.bias", "critic.stack.layer_1.mu"}
    for name in frozen:
        policy.get_parameter(name).requires_grad_(False)
    trained = set.union(*(names_in(policy, group) for group in groups_of(policy).values()))
    assert trained == {name for name, _ in policy.named_parameters()} - frozen


def make(method="varshare", dtype=torch.float32):
    policy = make_policy("MirroredCartPole", METHODS[method]()).to(dtype)
    perturb(policy)
    return policy, build_optimizer(policy, replace(OPTIONS, lr_log_var=7e-3))


def set_gradients(policy, step):
    """Of all sizes, down to those that Adam's epsilon drowns."""
    for k, parameter in enumerate(policy.parameters()):
        size = 10.0 ** -(2 * ((k + step) % 5))
        gradient = size * randn(*parameter.shape, seed=100 * step + k).to(parameter)
        parameter.grad = gradient if parameter.grad is None else parameter.grad.copy_(gradient)


def plain_adam(policy):
    """torch's Adam, one group a parameter."""
    groups = []
    for name, p in policy.named_parameters():
        special, actor = name.endswith("log_var"), name.startswith("actor")
        lr = 7e-3 if special else 1e-3 if actor else 2e-3
        groups.append({"params": [p], "lr": lr, "eps": 1e-8 if special else 1e-5, "initial_lr": lr})
    return torch.optim.Adam(groups, foreach=False)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-13)])
@pytest.mark.parametrize("method", METHODS)
def test_fifty_steps_equal_torchs_adam(method, dtype, tolerance, fused, monkeypatch):
    """Its own loop over tensors, not the fused kernel; and where there is no fused kernel."""
    if not fused:
        monkeypatch.setattr(optimizer_module, "FUSED_DEVICES", ())
    policy, optimizer = make(method, dtype)
    assert [group["fused"] for group in optimizer.param_groups] == [fused] * len(optimizer.param_groups)
    reference = make(method, dtype)[0]
    adam, start = plain_adam(reference), weights_of(policy)
    for step in range(50):
        for one in (optimizer, adam):
            anneal(one, 1.0 - step / 60)
        for trained in (policy, reference):
            set_gradients(trained, step)
        optimizer.step()
        adam.step()
    for (name, ours), plain in zip(policy.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, plain, rtol=tolerance, atol=tolerance)
        assert (ours - start[name]).abs().max() > 1e-3


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_a_state_that_was_saved_goes_on_the_same():
    policy, optimizer = make()
    for step in range(5):
        set_gradients(policy, step)
        optimizer.step()
    anneal(optimizer, 0.5)
    weights, state = saved(policy.state_dict()), saved(optimizer.state_dict())
    other, resumed = make()
    other.load_state_dict(weights)
    resumed.load_state_dict(state)
    assert [g["name"] for g in resumed.param_groups] == ["actor", "actor_log_var", "critic", "critic_log_var"]
    for step in range(5, 10):
        for trained, adam in ((policy, optimizer), (other, resumed)):
            set_gradients(trained, step)
            adam.step()
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), other.parameters(), strict=True))
    for mine, its in zip(optimizer.state.values(), resumed.state.values(), strict=True):
        assert mine["step"] == its["step"] == 10
        assert torch.equal(mine["exp_avg"], its["exp_avg"])


def test_the_state_is_in_torchs_layout():
    """So that torch's own Adam goes on from it."""
    policy, optimizer = make()
    set_gradients(policy, 1)
    optimizer.step()
    twin = copy.deepcopy(policy)
    groups = [[twin.get_parameter(n) for n in sorted_names(policy, g)] for g in optimizer.param_groups]
    adam = torch.optim.Adam([{"params": parameters} for parameters in groups])
    adam.load_state_dict(saved(optimizer.state_dict()))
    for trained, one in ((policy, optimizer), (twin, adam)):
        set_gradients(trained, 2)
        one.step()
    torch.testing.assert_close(weights_of(twin), weights_of(policy), rtol=1e-6, atol=1e-7)


def sorted_names(policy, group):
    names = {id(p): name for name, p in policy.named_parameters()}
    return [names[id(p)] for p in group["params"]]


def test_a_new_optimizer_changes_no_value_and_starts_at_zero():
    policy = make_policy("MirroredCartPole")
    before = weights_of(policy)
    optimizer = build_optimizer(policy, OPTIONS)
    assert all(torch.equal(p, before[name]) for name, p in policy.named_parameters())
    assert len(optimizer.state) == len(before)
    for state in optimizer.state.values():
        assert not state["exp_avg"].any()
        assert not state["exp_avg_sq"].any()
        assert state["step"] == 0


def test_gradients_are_those_of_the_loss_and_lie_as_parameters_do():
    """Also where a loss does not depend on a parameter, and where a product's gradient comes transposed."""
    policy, optimizer = make()
    x, tasks = randn(2, 6, 4, dtype=torch.float32), torch.arange(2)
    optimizer.differentiate(policy.critic.compute(policy.critic.prepare(tasks), x).square().sum())
    found = {name: p.grad for name, p in policy.named_parameters()}
    loss = policy.critic.compute(policy.critic.prepare(tasks), x).square().sum()
    for (name, parameter), grad in zip(
        policy.named_parameters(), torch.autograd.grad(loss, list(policy.parameters()), allow_unused=True), strict=True
    ):
        assert found[name].is_contiguous(), name
        assert torch.equal(found[name], torch.zeros_like(parameter) if grad is None else grad), name
    assert not found["actor.stack.head.theta"].any()
    assert found["critic.stack.head.theta"].any()


def test_anneal_starts_from_the_initial_rates_each_time():
    optimizer = build_optimizer(make_policy("MirroredCartPole"), replace(OPTIONS, lr_log_var=4e-3))
    for fraction in (0.5, 0.25, 1.0, 0.0):
        anneal(optimizer, fraction)
        assert [g["lr"] for g in optimizer.param_groups] == pytest.approx(
            [1e-3 * fraction, 4e-3 * fraction, 2e-3 * fraction, 4e-3 * fraction]
        )


def norm(module):
    return torch.stack([p.grad.norm() for p in module.parameters()]).norm().item()


def with_gradients():
    policy = make_policy("MirroredCartPole")
    optimizer = build_optimizer(policy, OPTIONS)
    for network, size in ((policy.actor, 1.0), (policy.critic, 0.001)):
        for p in network.parameters():
            p.grad = torch.full_like(p, size)
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
    optimizer = build_optimizer(policy, OPTIONS)
    for share in (1e-4, 0.7, 0.99, 1.01, 1e6):
        for k, p in enumerate(policy.parameters()):
            p.grad = randn(*p.shape, seed=k).float()
        max_norm = share * norm(policy.actor)
        plain = {name: [p.grad.clone() for p in network.parameters()] for name, network in policy.networks()}
        norms = clip_gradients(optimizer, max_norm)
        for (name, network), found in zip(policy.networks(), norms, strict=True):
            copies = [torch.nn.Parameter(torch.zeros_like(g)) for g in plain[name]]
            for twin, gradient in zip(copies, plain[name], strict=True):
                twin.grad = gradient
            assert found == pytest.approx(torch.nn.utils.clip_grad_norm_(copies, max_norm).item(), rel=1e-6)
            torch.testing.assert_close([p.grad for p in network.parameters()], [c.grad for c in copies])


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
    optimizer = build_optimizer(policy, replace(OPTIONS, lr_actor=1e-2, adam_eps_log_var=eps_log_var))
    layers = [layer for _, layer in policy.actor.layers()]
    for _ in range(steps):
        loss = sum(
            0.5 * h * ((layer.mu - target).square() + layer.log_var.exp()).flatten(1).sum(1) + beta * layer.kl()
            for h, layer in zip(curvatures, layers, strict=True)
        )
        optimizer.differentiate(loss.mean() / policy.num_variational)
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
