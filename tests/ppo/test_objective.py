"""The objective on minibatches made by hand."""

import pytest
import torch
from helpers import METHODS, generator, make_policy, perturb, randn

from varshare_pl.groups import TaskGroups
from varshare_pl.ppo.objective import Objective
from varshare_pl.rollout.minibatches import epoch
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
    return next(epoch(rows, TaskGroups.from_rows(task, num_tasks), 1, generator()))


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
    actor_noise = policy.actor.draw_weight_noise(generator(6))
    loss, terms = Objective(**weights)(policy, batch_of(TASK, rows), actor_noise, None)
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
        torch.testing.assert_close(terms.policy[m].double(), -surrogate.detach() / 2)
        torch.testing.assert_close(terms.value[m].double(), value.detach() / 2)
        expected = expected + (-surrogate + 0.7 * value - 0.2 * entropy + 0.4 / policy.num_variational * kl[m]) / 2
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(terms.total, expected.detach())
    torch.testing.assert_close(terms.kl, (0.4 / policy.num_variational * kl.mean()).detach())
    deviation = (ratio - 1).abs().detach()
    torch.testing.assert_close(terms.ratio_deviation, deviation.max())
    share = sum((deviation[m == TASK] > 0.1).double().mean() / 2 for m in (0, 1))
    torch.testing.assert_close(terms.clip_fraction.double(), share)
    policy_kl = sum(((ratio - 1) - ratio.log())[m == TASK].mean() / 2 for m in (0, 1))
    torch.testing.assert_close(terms.policy_kl, policy_kl.detach())


@pytest.mark.parametrize("term", ["policy", "value", "entropy"])
def test_each_task_weighs_the_same(policy, term):
    """Six rows of task 0 repeated a hundred times weigh no more than before."""
    weights = OFF | {"value": {"value_coef": 1.0}, "entropy": {"entropy_coef": 1.0}}.get(term, {})
    rows = make_rows(TASK)
    many = torch.cat([torch.arange(8), (TASK == 0).nonzero().squeeze(1).repeat(100)])
    few_loss, _ = Objective(**weights)(policy, batch_of(TASK, rows), None, None)
    more_rows = {name: values[many] for name, values in rows.items()}
    many_loss, _ = Objective(**weights)(policy, batch_of(TASK[many], more_rows), None, None)
    torch.testing.assert_close(many_loss, few_loss)


def test_kl_weight_means_the_same_at_every_width_and_number_of_tasks():
    """At the start every weight has the same KL, so the term must not depend on sizes."""
    terms = []
    for suite, sizes in (("MirroredCartPole", (8,)), ("MirroredCartPole", (64, 64)), ("ComplexCartPole", (8,))):
        policy = make_policy(suite, hidden_sizes=sizes).double()
        _, parts = Objective(**OFF | {"kl_weight": 0.5})(policy, batch_of(TASK), None, None)
        terms.append(parts.kl.item())
    assert terms == pytest.approx([terms[0]] * 3)
    per_weight = 0.5 * (0.25 - 1 - torch.tensor(0.25).log().item())
    assert terms[0] == pytest.approx(0.5 * per_weight)


def test_kl_pulls_every_task_whether_present_or_not(policy):
    loss, _ = Objective(**OFF | {"kl_weight": 1.0})(policy, batch_of(torch.zeros(8, dtype=torch.int64)), None, None)
    loss.backward()
    for *_, layer in policy.layers():
        assert (layer.mu.grad.flatten(1).abs().sum(1) > 0).all()
        expected = layer.mu / layer.prior_std**2 / (2 * policy.num_variational)
        torch.testing.assert_close(layer.mu.grad[1], expected[1].detach())


def test_methods_without_variational_weights_have_no_kl_term():
    for name in ("shared", "shared_onehot", "independent"):
        policy = make_policy("MirroredCartPole", METHODS[name]()).double()
        _, terms = Objective(**OFF | {"kl_weight": 100.0})(policy, batch_of(TASK), None, None)
        assert terms.kl == 0.0


def test_gauge_shift_changes_no_term_but_the_kl():
    policy = make_policy("MirroredCartPole", VarShare()).double()
    perturb(policy)
    objective = Objective(**OFF | {"value_coef": 0.5, "entropy_coef": 0.1})
    noise = policy.actor.draw_weight_noise(generator(6))
    before, _ = objective(policy, batch_of(TASK), noise, None)
    with torch.no_grad():
        for i, (*_, layer) in enumerate(policy.layers()):
            shift = randn(*layer.theta.shape, seed=i)
            layer.theta += shift
            layer.mu -= shift
    after, _ = objective(policy, batch_of(TASK), noise, None)
    torch.testing.assert_close(after, before)


def test_coefficients_scale_their_terms_and_the_sign_of_entropy_is_a_bonus(policy):
    batch = batch_of(TASK)
    base, terms = Objective(**OFF)(policy, batch, None, None)
    with_value, _ = Objective(**OFF | {"value_coef": 3.0})(policy, batch, None, None)
    with_entropy, _ = Objective(**OFF | {"entropy_coef": 3.0})(policy, batch, None, None)
    torch.testing.assert_close(with_value - base, 3 * terms.value.sum())
    torch.testing.assert_close(base - with_entropy, 3 * terms.entropy)
    assert terms.entropy > 0
