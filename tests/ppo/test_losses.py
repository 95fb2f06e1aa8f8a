"""The losses by hand, row by row and on minibatches."""

import math
from dataclasses import replace

import pytest
import torch
from helpers import METHODS, generator, make_policy, perturb, randn

from varshare_pl.networks.groups import TaskGroups
from varshare_pl.networks.noise import local_noise, weight_noise
from varshare_pl.ppo.losses import (
    Losses,
    StepInput,
    approximate_kl,
    clipped_surrogate,
    compute_losses,
    kl_scale,
    policy_kl,
    squared_error,
    total_loss,
)
from varshare_pl.ppo.options import PPOOptions
from varshare_pl.rollout.minibatches import minibatches, task_weights
from varshare_pl.sharing import VarShare


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss"),
    [
        (1.0, 2.0, -2.0),
        (1.1, 2.0, -2.2),
        (1.5, 2.0, -2.4),  # clipped: no reward for going further up
        (0.5, 2.0, -1.0),  # not clipped: too low is to be undone
        (0.5, -2.0, 1.6),  # clipped: no reward for going further down
        (1.5, -2.0, 3.0),
    ],
)
def test_clipped_surrogate_by_hand(ratio, advantage, loss):
    assert clipped_surrogate(torch.tensor([ratio]), torch.tensor([advantage]), 0.2).item() == pytest.approx(loss)


@pytest.mark.parametrize(
    ("ratio", "advantage", "derivative"),
    [(1.5, 1.0, 0.0), (0.5, 1.0, -0.5), (0.5, -1.0, 0.0), (1.5, -1.0, 1.5), (1.1, 2.0, -2.2)],
)
def test_clipping_stops_the_gradient(ratio, advantage, derivative):
    """By ln r it is −r A, or nothing."""
    log_ratio = torch.tensor([math.log(ratio)], requires_grad=True)
    clipped_surrogate(log_ratio.exp(), torch.tensor([advantage]), 0.2).backward()
    assert log_ratio.grad.item() == pytest.approx(derivative)


def test_value_errors_by_hand():
    values = torch.tensor([1.0, 3.0, 0.0], requires_grad=True)
    old, returns = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([2.0, 4.0, 0.0])
    for clip_range, errors, derivatives in (
        (None, [1.0, 1.0, 0.0], [-2.0, -2.0, 0.0]),
        (0.5, [1.0, 6.25, 0.25], [-2.0, 0.0, 0.0]),  # the second and third are kept values: they do not move
    ):
        error = squared_error(values, returns, old, clip_range)
        assert error.tolist() == errors
        assert torch.autograd.grad(error.sum(), values)[0].tolist() == derivatives


def test_approximate_kl_is_positive_and_its_mean_is_the_kl():
    log_ratio = randn(1000)
    assert (approximate_kl(log_ratio) >= 0).all()
    assert approximate_kl(torch.zeros(3)).tolist() == [0.0, 0.0, 0.0]
    old, new = torch.tensor([0.2, 0.8]).double(), torch.tensor([0.5, 0.5]).double()
    expectation = (old * approximate_kl((new / old).log())).sum()
    torch.testing.assert_close(expectation, (old * (old / new).log()).sum())


TASK = torch.tensor([0, 1, 0, 0, 0, 1, 0, 0])
OFF = PPOOptions(clip_range=0.2, value_coef=0.0, entropy_coef=0.0, kl_weight=0.0)
ALL = PPOOptions(clip_range=0.1, value_clip_range=0.3, value_coef=0.7, entropy_coef=0.2, kl_weight=0.4)


def make_rows(task):
    n = len(task)
    return {
        "obs": randn(n, 4),
        "actions": torch.randint(2, (n,), generator=generator(1)),
        "log_prob": randn(n, seed=2) * 0.1 - 0.7,
        "values": randn(n, seed=3),
        "advantages": randn(n, seed=4),
        "returns": randn(n, seed=5),
    }


def batch_of(task, rows=None):
    groups = TaskGroups.from_rows(task, 2)
    (batch,) = minibatches(rows or make_rows(task), groups, 1, task_weights(task, 2), generator())
    return batch


def loss_and_parts(policy, batch, options=OFF, actor_noise=None, critic_noise=None):
    """The loss to minimise, and its parts."""
    losses = compute_losses(policy, StepInput(batch, actor_noise, critic_noise), options)
    kl = policy.kl() if policy.num_variational else None
    return total_loss(losses, kl, kl_scale(options.kl_weight, policy), options), losses


@pytest.fixture
def policy():
    policy = make_policy("MirroredCartPole").double()
    perturb(policy)
    return policy


def test_loss_by_hand(policy):
    """Every term from its definition, task by task."""
    rows = make_rows(TASK)
    actor_noise = [weight_noise(layer, generator(6)) for _, layer in policy.actor.layers()]
    critic_noise = [weight_noise(layer, generator(7)) for _, layer in policy.critic.layers()]
    batch = batch_of(TASK, rows)
    total, losses = loss_and_parts(policy, batch, ALL, actor_noise, critic_noise)
    distribution = torch.distributions.Categorical(logits=policy.actor(rows["obs"], TASK, actor_noise))
    ratio = (distribution.log_prob(rows["actions"]) - rows["log_prob"]).exp()
    values = policy.critic(rows["obs"], TASK, critic_noise).squeeze(-1)
    kl = sum(layer.kl() for *_, layer in policy.layers())
    expected, policy_kls = torch.zeros(()).double(), []
    for m in (0, 1):
        own = m == TASK
        a, r = rows["advantages"][own], ratio[own]
        surrogate = torch.min(r * a, r.clamp(0.9, 1.1) * a).mean()
        old, new, target = rows["values"][own], values[own], rows["returns"][own]
        near = old + (new - old).clamp(-0.3, 0.3)
        value = torch.max((new - target) ** 2, (near - target) ** 2).mean()
        entropy = distribution.entropy()[own].mean()
        torch.testing.assert_close(losses.policy[m], -surrogate / 2)
        torch.testing.assert_close(losses.value[m], value / 2)
        torch.testing.assert_close(losses.entropy[m], entropy / 2)
        expected = expected + (-surrogate + 0.7 * value - 0.2 * entropy + 0.4 / policy.num_variational * kl[m]) / 2
        policy_kls.append(((r - 1) - r.log()).mean())
    torch.testing.assert_close(total, expected)
    assert not losses.log_ratio.requires_grad
    torch.testing.assert_close(policy_kl(losses.log_ratio, batch.weight), sum(policy_kls).detach() / 2)


CRITIC_NOISES = {
    "mean": lambda layer, shape: None,
    "local": lambda layer, shape: local_noise(layer, *shape, generator(1)),
    "weights": lambda layer, shape: weight_noise(layer, generator(1)),
}


@pytest.mark.parametrize("critic_noise", CRITIC_NOISES)
@pytest.mark.parametrize("method", METHODS)
def test_gradient_by_differences(method, critic_noise):
    """Of the whole loss along a random direction; all tasks, and one that is absent."""
    policy = make_policy("MirroredCartPole", METHODS[method]()).double()
    perturb(policy)
    for task in (TASK, torch.ones_like(TASK)):
        batch = batch_of(task)
        noises = (
            [weight_noise(layer, generator(6)) for _, layer in policy.actor.layers()],
            [CRITIC_NOISES[critic_noise](layer, batch.weight.shape) for _, layer in policy.critic.layers()],
        )
        policy.zero_grad()
        loss_and_parts(policy, batch, ALL, *noises)[0].backward()
        parameters = [p for p in policy.parameters() if p.grad is not None]
        direction = [randn(*p.shape, seed=k) for k, p in enumerate(parameters)]
        slope = sum((p.grad * d).sum() for p, d in zip(parameters, direction, strict=True))
        ends, step = [], 1e-6
        with torch.no_grad():
            for move in (step, -2 * step):
                for p, d in zip(parameters, direction, strict=True):
                    p.add_(d, alpha=move)
                ends.append(loss_and_parts(policy, batch, ALL, *noises)[0])
        torch.testing.assert_close(slope, (ends[0] - ends[1]) / (2 * step), rtol=1e-5, atol=1e-7)


def test_total_of_many_steps_is_one_total_a_step():
    steps = [Losses(randn(3, 2, seed=k), randn(2, 4)) for k in range(3)]
    kls = [randn(2, seed=20 + k) for k in range(3)]
    together = total_loss(Losses(*map(torch.stack, zip(*steps, strict=True))), torch.stack(kls), 3.0, ALL)
    apart = [total_loss(losses, kl, 3.0, ALL) for losses, kl in zip(steps, kls, strict=True)]
    torch.testing.assert_close(together, torch.stack(apart))


def test_total_with_a_scale_that_is_a_tensor():
    """What the compiled steps take."""
    losses, kl = Losses(randn(3, 2), randn(2, 4)), randn(2, seed=5)
    scale = torch.tensor(3.0, dtype=torch.float64)
    torch.testing.assert_close(total_loss(losses, kl, scale, ALL), total_loss(losses, kl, 3.0, ALL))
    difference = total_loss(losses, kl, 2 * scale, ALL) - total_loss(losses, kl, scale, ALL)
    torch.testing.assert_close(difference, scale * kl.sum())


@pytest.mark.parametrize("weights", [{}, {"value_coef": 1.0}, {"entropy_coef": 1.0}], ids=str)
def test_each_task_weighs_the_same(policy, weights):
    """Six rows of task 0 repeated a hundred times weigh no more than before."""
    rows, options = make_rows(TASK), replace(OFF, **weights)
    many = torch.cat([torch.arange(8), (TASK == 0).nonzero().squeeze(1).repeat(100)])
    few_loss, _ = loss_and_parts(policy, batch_of(TASK, rows), options)
    more_rows = {name: values[many] for name, values in rows.items()}
    many_loss, _ = loss_and_parts(policy, batch_of(TASK[many], more_rows), options)
    torch.testing.assert_close(many_loss, few_loss)


def test_kl_weight_means_the_same_at_every_width_and_number_of_tasks():
    """At the start every weight has the same KL, so the term must not depend on sizes."""
    terms = []
    for suite, sizes in (("MirroredCartPole", (8,)), ("MirroredCartPole", (64, 64)), ("ComplexCartPole", (8,))):
        policy = make_policy(suite, hidden_sizes=sizes).double()
        with_kl, _ = loss_and_parts(policy, batch_of(TASK), replace(OFF, kl_weight=0.5))
        without, _ = loss_and_parts(policy, batch_of(TASK))
        terms.append((with_kl - without).item())
    assert terms == pytest.approx([terms[0]] * 3)
    per_weight = 0.5 * (0.25 - 1 - math.log(0.25))
    assert terms[0] == pytest.approx(0.5 * per_weight)


def test_kl_pulls_every_task_whether_present_or_not(policy):
    loss, _ = loss_and_parts(policy, batch_of(torch.zeros(8, dtype=torch.int64)), replace(OFF, kl_weight=1.0))
    loss.backward()
    for *_, layer in policy.layers():
        assert (layer.mu.grad.flatten(1).abs().sum(1) > 0).all()
        expected = layer.mu / layer.prior_std**2 / (2 * policy.num_variational)
        torch.testing.assert_close(layer.mu.grad[1], expected[1].detach())


@pytest.mark.parametrize("method", ["shared", "shared_onehot", "independent"])
def test_methods_without_variational_weights_have_no_kl_term(method):
    policy = make_policy("MirroredCartPole", METHODS[method]()).double()
    with_kl, _ = loss_and_parts(policy, batch_of(TASK), replace(OFF, kl_weight=100.0))
    assert torch.equal(with_kl, loss_and_parts(policy, batch_of(TASK))[0])
    assert policy.kl().tolist() == [0.0, 0.0]
    assert kl_scale(100.0, policy) == 0.0


def test_gauge_shift_changes_no_term_but_the_kl():
    policy = make_policy("MirroredCartPole", VarShare()).double()
    perturb(policy)
    options = replace(OFF, value_coef=0.5, entropy_coef=0.1)
    noise = [weight_noise(layer, generator(6)) for _, layer in policy.actor.layers()]
    (before, first), kl = loss_and_parts(policy, batch_of(TASK), options, noise), policy.kl()
    with torch.no_grad():
        for i, (*_, layer) in enumerate(policy.layers()):
            shift = randn(*layer.theta.shape, seed=i)
            layer.theta += shift
            layer.mu -= shift
    after, second = loss_and_parts(policy, batch_of(TASK), options, noise)
    torch.testing.assert_close(after, before)
    torch.testing.assert_close(second, first)
    assert not torch.allclose(policy.kl(), kl)


def test_coefficients_scale_their_terms_and_the_sign_of_entropy_is_a_bonus(policy):
    batch = batch_of(TASK)
    base, losses = loss_and_parts(policy, batch)
    with_value, _ = loss_and_parts(policy, batch, replace(OFF, value_coef=3.0))
    with_entropy, _ = loss_and_parts(policy, batch, replace(OFF, entropy_coef=3.0))
    torch.testing.assert_close(with_value - base, 3 * losses.value.sum())
    torch.testing.assert_close(base - with_entropy, 3 * losses.entropy.sum())
    assert (losses.entropy > 0).all()


@pytest.mark.parametrize("value_clip_range", [None, 0.3])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("field", ["obs", "log_prob", "advantages", "returns", "values"])
def test_what_is_not_finite_stays_so_in_the_loss_of_its_task(policy, field, bad, value_clip_range):
    """So that the step is refused: a minimum or a clamp may not drop a NaN. Other tasks keep their loss."""
    batch = batch_of(TASK)
    options = replace(ALL, value_clip_range=value_clip_range)
    _, before = loss_and_parts(policy, batch, options)
    place = (1, 0, 0) if field == "obs" else (1, 0)
    getattr(batch, field)[place] = bad
    _, after = loss_and_parts(policy, batch, options)
    for part in ("policy", "value", "entropy"):
        assert getattr(after, part)[0] == getattr(before, part)[0]
    if not math.isnan(bad):
        return  # an infinity may be clipped, as PPO clips
    hit = {
        "obs": {"policy", "value", "entropy"},
        "log_prob": {"policy"},
        "advantages": {"policy"},
        "returns": {"value"},
        "values": set() if value_clip_range is None else {"value"},  # old values matter to the clipping alone
    }[field]
    assert {part for part in ("policy", "value", "entropy") if getattr(after, part)[1].isnan()} == hit
