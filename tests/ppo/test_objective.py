"""The objective on minibatches made by hand."""

import math

import pytest
import torch
from helpers import METHODS, generator, make_policy, perturb, randn
from varshare_pl.gradients import accumulate
from varshare_pl.ppo.objective import Losses, Objective, Seeds
from varshare_pl.ppo.step import GradientStep

from varshare_pl.learning.optimizer import build_optimizer
from varshare_pl.networks.groups import TaskGroups
from varshare_pl.ppo.update import UpdateOptions, update
from varshare_pl.random import array_stream, stream
from varshare_pl.rollout.minibatches import Minibatches
from varshare_pl.sharing import VarShare

OFF = {"clip_range": 0.2, "value_clip_range": None, "value_coef": 0.0, "entropy_coef": 0.0, "kl_weight": 0.0}


def make_rows(task, actions=2):
    n = len(task)
    return {
        "obs": randn(n, 4),
        "actions": torch.randint(actions, (n,), generator=generator(1)),
        "log_prob": randn(n, seed=2) * 0.1 - 0.7,
        "values": randn(n, seed=3),
        "advantages": randn(n, seed=4),
        "returns": randn(n, seed=5),
    }


def batch_of(task, rows=None, num_tasks=2):
    rows = rows or make_rows(task)
    return next(Minibatches(rows, TaskGroups.from_rows(task, num_tasks), 1).epoch(generator()))


def loss_and_parts(policy, batch, actor_noise=None, **weights):
    """The loss to minimise, and its parts."""
    objective = Objective(**OFF | weights)
    losses = objective(policy, batch, actor_noise, None)
    return objective.total(policy, losses), losses


@pytest.fixture
def policy():
    policy = make_policy("MirroredCartPole").double()
    perturb(policy)
    return policy


TASK = torch.tensor([0, 1, 0, 0, 0, 1, 0, 0])


def test_loss_by_hand(policy):
    """Every term from its definition, task by task."""
    rows = make_rows(TASK)
    weights = {"clip_range": 0.1, "value_clip_range": 0.3, "value_coef": 0.7, "entropy_coef": 0.2, "kl_weight": 0.4}
    actor_noise = policy.actor.draw_weight_noise(stream(1, "weight_noise", 0))
    objective = Objective(**weights)
    losses = objective(policy, batch_of(TASK, rows), actor_noise, None)
    distribution = torch.distributions.Categorical(logits=policy.actor(rows["obs"], TASK, actor_noise))
    ratio = (distribution.log_prob(rows["actions"]) - rows["log_prob"]).exp()
    values = policy.critic(rows["obs"], TASK).squeeze(-1)
    expected = torch.zeros(()).double()
    kl = sum(layer.kl() for *_, layer in policy.layers())
    for m in (0, 1):
        own = m == TASK
        a, r = rows["advantages"][own], ratio[own]
        surrogate = torch.min(r * a, r.clamp(0.9, 1.1) * a).mean()
        old, new, target = rows["values"][own], values[own], rows["returns"][own]
        near = old + (new - old).clamp(-0.3, 0.3)
        value = torch.max((new - target) ** 2, (near - target) ** 2).mean()
        entropy = distribution.entropy()[own].mean()
        torch.testing.assert_close(losses.policy[m].double(), -surrogate / 2)
        torch.testing.assert_close(losses.value[m].double(), value / 2)
        torch.testing.assert_close(losses.entropy[m].double(), entropy / 2)
        torch.testing.assert_close(losses.kl[m], kl[m])
        expected = expected + (-surrogate + 0.7 * value - 0.2 * entropy + 0.4 / policy.num_variational * kl[m]) / 2
    torch.testing.assert_close(objective.total(policy, losses), expected)
    assert not losses.log_ratio.requires_grad

    # What is written down of an update of this one step.
    terms, first_deviation = update_of_one_step(policy, objective, rows)
    torch.testing.assert_close(terms.total, expected.detach())
    torch.testing.assert_close(terms.policy, losses.policy.detach())
    torch.testing.assert_close(terms.value, losses.value.detach())
    torch.testing.assert_close(terms.entropy, losses.entropy.detach().sum())
    torch.testing.assert_close(terms.kl, (0.4 / policy.num_variational * kl.mean()).detach())
    ratio = ratio.detach()
    deviation = (ratio - 1).abs()
    assert first_deviation == pytest.approx(deviation.max().item())
    share = sum((deviation[m == TASK] > 0.1).double().mean() / 2 for m in (0, 1))
    torch.testing.assert_close(terms.clip_fraction.double(), share)
    policy_kl = sum(((ratio - 1) - ratio.log())[m == TASK].mean() / 2 for m in (0, 1))
    torch.testing.assert_close(terms.policy_kl, policy_kl)


def update_of_one_step(policy, objective, rows):
    once = {"epochs": 1, "num_minibatches": 1, "gamma": 0.9, "gae_lambda": 0.8, "advantage_norm": "none"}
    options = UpdateOptions(**once, actor_noise="rollout", critic_noise="mean", target_kl=None, seed=1)
    step = GradientStep(policy, objective, build_optimizer(policy, 1e-3, 1e-3, None, 1e-5, 1e-8), None)
    rows, groups = rows | {"task": TASK}, TaskGroups.from_rows(TASK, 2)
    result = update(policy, rows, groups, 0, objective, options, step)
    return result.terms, result.first_ratio_deviation


CRITIC_NOISES = {
    "mean": lambda critic, shape: None,
    "local": lambda critic, shape: critic.draw_local_noise(*shape, array_stream(1, "a")),
    "flipout": lambda critic, shape: critic.draw_flipout_noise(*shape, generator(1), array_stream(1, "a")),
    "weights": lambda critic, shape: critic.draw_weight_noise(generator(1)),
}


@pytest.mark.parametrize("scale", [1.0, 1024.0])
@pytest.mark.parametrize("off", [None, "value_coef", "entropy_coef", "kl_weight"])
@pytest.mark.parametrize("critic_noise", CRITIC_NOISES)
@pytest.mark.parametrize("method", METHODS)
def test_gradients_by_hand_are_autograds_of_the_total(method, critic_noise, off, scale):
    policy = make_policy("MirroredCartPole", METHODS[method]()).double()
    perturb(policy)
    weights = {"clip_range": 0.1, "value_clip_range": 0.3, "value_coef": 0.7, "entropy_coef": 0.2, "kl_weight": 40.0}
    objective = Objective(**weights | ({off: 0.0} if off else {}))
    for task in (TASK, torch.ones_like(TASK)):  # all tasks, and one that is absent
        batch = batch_of(task)
        noises = (
            policy.actor.draw_weight_noise(generator(6)),
            CRITIC_NOISES[critic_noise](policy.critic, batch.weight.shape),
        )
        policy.zero_grad(set_to_none=True)
        losses = objective(policy, batch, *noises)
        (objective.total(policy, losses) * scale).backward()
        expected = [p.grad if p.grad is not None else torch.zeros_like(p) for p in policy.parameters()]
        for parameter in policy.parameters():
            parameter.grad = torch.zeros_like(parameter)
        found, pullback = objective.with_pullback(policy, batch, *noises)
        assert not any(part.requires_grad for part in found)
        for part, other in zip(found, losses, strict=True):
            torch.testing.assert_close(part, other.detach(), rtol=1e-12, atol=1e-14)
        seeds = Seeds(objective)(found.sums) * scale
        accumulate(pullback(seeds, objective.kl_scale(policy) * scale))
        for parameter, gradient in zip(policy.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-10, atol=1e-12 * scale)


def test_total_of_many_steps_is_one_total_a_step():
    policy, objective = make_policy("MirroredCartPole"), Objective(0.2, None, 0.5, 0.1, 3.0)
    steps = [Losses(randn(3, 2, seed=2 * k), randn(2, seed=2 * k + 1), randn(2, 4)) for k in range(3)]
    together = objective.total(policy, Losses(*(torch.stack(column) for column in zip(*steps, strict=True))))
    torch.testing.assert_close(together, torch.stack([objective.total(policy, losses) for losses in steps]))


@pytest.mark.parametrize("term", ["policy", "value", "entropy"])
def test_each_task_weighs_the_same(policy, term):
    """Six rows of task 0 repeated a hundred times weigh no more than before."""
    weights = {"value": {"value_coef": 1.0}, "entropy": {"entropy_coef": 1.0}}.get(term, {})
    rows = make_rows(TASK)
    many = torch.cat([torch.arange(8), (TASK == 0).nonzero().squeeze(1).repeat(100)])
    few_loss, _ = loss_and_parts(policy, batch_of(TASK, rows), **weights)
    more_rows = {name: values[many] for name, values in rows.items()}
    many_loss, _ = loss_and_parts(policy, batch_of(TASK[many], more_rows), **weights)
    torch.testing.assert_close(many_loss, few_loss)


def test_kl_weight_means_the_same_at_every_width_and_number_of_tasks():
    """At the start every weight has the same KL, so the term must not depend on sizes."""
    terms = []
    for suite, sizes in (("MirroredCartPole", (8,)), ("MirroredCartPole", (64, 64)), ("ComplexCartPole", (8,))):
        policy = make_policy(suite, hidden_sizes=sizes).double()
        with_kl, _ = loss_and_parts(policy, batch_of(TASK), kl_weight=0.5)
        without, losses = loss_and_parts(policy, batch_of(TASK))
        terms.append((with_kl - without).item())
        per_element = Objective(**OFF | {"kl_weight": 0.5}).kl_scale(policy)
        assert per_element * losses.kl.sum().item() == pytest.approx(terms[-1])
    assert terms == pytest.approx([terms[0]] * 3)
    per_weight = 0.5 * (0.25 - 1 - math.log(0.25))
    assert terms[0] == pytest.approx(0.5 * per_weight)


def test_kl_pulls_every_task_whether_present_or_not(policy):
    loss, _ = loss_and_parts(policy, batch_of(torch.zeros(8, dtype=torch.int64)), kl_weight=1.0)
    loss.backward()
    for *_, layer in policy.layers():
        assert (layer.mu.grad.flatten(1).abs().sum(1) > 0).all()
        expected = layer.mu / layer.prior_std**2 / (2 * policy.num_variational)
        torch.testing.assert_close(layer.mu.grad[1], expected[1].detach())


def test_methods_without_variational_weights_have_no_kl_term():
    for name in ("shared", "shared_onehot", "independent"):
        policy = make_policy("MirroredCartPole", METHODS[name]()).double()
        with_kl, losses = loss_and_parts(policy, batch_of(TASK), kl_weight=100.0)
        assert torch.equal(with_kl, loss_and_parts(policy, batch_of(TASK))[0])
        assert losses.kl.tolist() == [0.0, 0.0]
        assert Objective(**OFF | {"kl_weight": 100.0}).kl_scale(policy) == 0.0


def test_gauge_shift_changes_no_term_but_the_kl():
    policy = make_policy("MirroredCartPole", VarShare()).double()
    perturb(policy)
    weights = {"value_coef": 0.5, "entropy_coef": 0.1}
    noise = policy.actor.draw_weight_noise(generator(6))
    before, first = loss_and_parts(policy, batch_of(TASK), noise, **weights)
    with torch.no_grad():
        for i, (*_, layer) in enumerate(policy.layers()):
            shift = randn(*layer.theta.shape, seed=i)
            layer.theta += shift
            layer.mu -= shift
    after, second = loss_and_parts(policy, batch_of(TASK), noise, **weights)
    torch.testing.assert_close(after, before)
    torch.testing.assert_close(second.sums, first.sums)
    assert not torch.allclose(second.kl, first.kl)


def test_coefficients_scale_their_terms_and_the_sign_of_entropy_is_a_bonus(policy):
    batch = batch_of(TASK)
    base, losses = loss_and_parts(policy, batch)
    with_value, _ = loss_and_parts(policy, batch, value_coef=3.0)
    with_entropy, _ = loss_and_parts(policy, batch, entropy_coef=3.0)
    torch.testing.assert_close(with_value - base, 3 * losses.value.sum())
    torch.testing.assert_close(base - with_entropy, 3 * losses.entropy.sum())
    assert (losses.entropy > 0).all()
