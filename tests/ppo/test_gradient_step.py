"""One gradient step, against the same written with torch's own parts."""

import pytest
import torch
from helpers import METHODS, collect, generator, make_policy, perturb, weights_of
from varshare_pl.ppo.objective import Objective
from varshare_pl.ppo.step import GradientStep, Work

from varshare_pl.errors import NonFiniteError
from varshare_pl.learning.optimizer import build_optimizer
from varshare_pl.networks.groups import TaskGroups
from varshare_pl.rollout.minibatches import Minibatches

OBJECTIVE = Objective(clip_range=0.2, value_clip_range=0.5, value_coef=0.5, entropy_coef=0.01, kl_weight=0.1)
ADAM = (3e-3, 1e-3, 7e-3, 1e-5, 1e-8)


def make(method="varshare"):
    policy = make_policy("MirroredCartPole", METHODS[method]())
    perturb(policy, 0.2)
    return policy


def batches():
    policy = make()
    (rollout,) = collect(policy, "MirroredCartPole", 4, 30, mode="mean")
    task = rollout.task.flatten()
    n = len(task)
    columns = torch.randn(4, n, generator=generator(1))
    rows = dict(zip(("log_prob", "values", "advantages", "returns"), columns, strict=True))
    rows["log_prob"] = rows["log_prob"] * 0.1 - 0.7
    rows |= {"obs": rollout.obs.flatten(0, 1), "actions": rollout.actions.flatten(), "task": task}
    return list(Minibatches(rows, TaskGroups.from_rows(task, 2), 6).epoch(generator(2)))


def plain_step(policy, adam, batch, noise, max_norm):
    losses = OBJECTIVE(policy, batch, noise, None)
    adam.zero_grad()
    OBJECTIVE.total(policy, losses).backward()
    bound = float("inf") if max_norm is None else max_norm
    norms = [torch.nn.utils.clip_grad_norm_(torso.parameters(), bound).item() for _, torso in policy.networks()]
    adam.step()
    return norms


def plain_adam(policy):
    lr = {"actor": 3e-3, "critic": 1e-3}
    groups = []
    for name, p in policy.named_parameters():
        special = name.endswith("log_var")
        rate, eps = (7e-3, 1e-8) if special else (lr[name.split(".")[0]], 1e-5)
        groups.append({"params": [p], "lr": rate, "eps": eps})
    return torch.optim.Adam(groups)


@pytest.mark.parametrize("max_norm", [None, 0.05, 1e9])
@pytest.mark.parametrize("method", METHODS)
def test_steps_equal_those_of_torchs_own_parts(method, max_norm):
    ours, plain = make(method), make(method)
    step = GradientStep(ours, OBJECTIVE, build_optimizer(ours, *ADAM), max_norm)
    adam, start = plain_adam(plain), weights_of(plain)
    for batch in batches():
        noise = ours.actor.draw_weight_noise(generator(3))
        (norms,) = step.take([Work(batch, noise, None)], 0, None).norms
        assert norms == pytest.approx(plain_step(plain, adam, batch, noise, max_norm), rel=1e-4)
    found, expected = weights_of(ours), weights_of(plain)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=2e-6)
        assert (value - start[name]).abs().max() > 1e-3


def test_gradients_of_the_step_before_are_forgotten():
    first, second = make(), make()
    (batch, *_), noise = batches(), first.actor.draw_weight_noise(generator(3))
    for policy in (first, second):
        step = GradientStep(policy, OBJECTIVE, build_optimizer(policy, *ADAM), None)
        if policy is second:
            step.optimizer.gradient.fill_(1e3)
        step.take([Work(batch, noise, None)], 0, None)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_weights_that_were_exchanged_are_trained():
    """A checkpoint's weights come after the optimizer was made, and may bring memory of their own."""
    policy, batch = make(), batches()[0]
    optimizer = build_optimizer(policy, *ADAM)
    for parameter in policy.parameters():
        parameter.data = parameter.detach() + 0.1
    before = weights_of(policy)
    step = GradientStep(policy, OBJECTIVE, optimizer, 0.5)
    assert all(torch.equal(p, before[name]) for name, p in policy.named_parameters())
    step.take([Work(batch, None, None)], 0, None)
    moved = {name for name, p in policy.named_parameters() if not torch.equal(p, before[name])}
    assert moved == set(before)


def test_a_gradient_that_is_not_finite_leaves_the_weights_alone():
    policy, batch = make(), batches()[0]
    step = GradientStep(policy, OBJECTIVE, build_optimizer(policy, *ADAM), 0.5)
    before = weights_of(policy)
    batch.returns[0, 0] = torch.nan
    with pytest.raises(NonFiniteError, match="the gradient of the critic is not finite"):
        step.take([Work(batch, None, None)], 0, None)
    assert all(torch.equal(p, before[name]) for name, p in policy.named_parameters())
    assert all(state["step"] == 0 for state in step.optimizer.state.values())
