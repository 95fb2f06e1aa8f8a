"""One gradient step, against the same written with torch's own parts."""

import copy

import pytest
import torch
from helpers import METHODS, collect, generator, make_policy, perturb, weights_of

from varshare_pl.errors import NonFiniteError
from varshare_pl.learning.optimizer import build_optimizer
from varshare_pl.networks.groups import TaskGroups
from varshare_pl.networks.noise import weight_noise
from varshare_pl.ppo.losses import StepInput, compute_losses, kl_scale, total_loss
from varshare_pl.ppo.options import Options
from varshare_pl.ppo.update import PlainSteps
from varshare_pl.rollout.minibatches import minibatches, task_weights

OPTIONS = Options(value_clip_range=0.5, lr_actor=3e-3, lr_critic=1e-3, lr_log_var=7e-3)


def make(method="varshare"):
    policy = make_policy("MirroredCartPole", METHODS[method]())
    perturb(policy, 0.2)
    return policy


def inputs():
    policy = make()
    (rollout,) = collect(policy, "MirroredCartPole", 4, 30, mode="mean")
    task = rollout.task.flatten()
    columns = torch.randn(4, len(task), generator=generator(1))
    rows = dict(zip(("log_prob", "values", "advantages", "returns"), columns, strict=True))
    rows["log_prob"] = rows["log_prob"] * 0.1 - 0.7
    rows |= {"obs": rollout.obs.flatten(0, 1), "actions": rollout.actions.flatten(), "task": task}
    noise = [weight_noise(layer, generator(3)) for _, layer in policy.actor.layers()]
    batches = minibatches(rows, TaskGroups.from_rows(task, 2), 6, task_weights(task, 2), generator(2))
    return [StepInput(batch, noise, None) for batch in batches]


def take(policy, steps, max_norm=0.5, optimizer=None):
    optimizer = optimizer or build_optimizer(policy, OPTIONS)
    taken = PlainSteps(policy, optimizer, OPTIONS, max_norm).run(steps, kl_scale(OPTIONS.kl_weight, policy), 0)
    return taken, optimizer


def plain_step(policy, adam, step, max_norm):
    losses = compute_losses(policy, step, OPTIONS)
    kl = policy.kl() if policy.num_variational else None
    adam.zero_grad()
    total_loss(losses, kl, kl_scale(OPTIONS.kl_weight, policy), OPTIONS).backward()
    bound = float("inf") if max_norm is None else max_norm
    norms = [torch.nn.utils.clip_grad_norm_(network.parameters(), bound).item() for _, network in policy.networks()]
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
    adam, start, steps = plain_adam(plain), weights_of(plain), inputs()
    taken, _ = take(ours, steps, max_norm)
    for norms, step in zip(taken.norms, steps, strict=True):
        assert norms == pytest.approx(plain_step(plain, adam, step, max_norm), rel=1e-4)
    found, expected = weights_of(ours), weights_of(plain)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=2e-6)
        assert (value - start[name]).abs().max() > 1e-3


def test_what_the_steps_leave_behind():
    policy, steps = make(), inputs()
    before, kl = copy.deepcopy(policy), policy.kl()
    taken, _ = take(policy, steps)
    assert not taken.stopped_early
    assert len(taken.norms) == len(taken.weights) == len(taken.kl) == 6
    torch.testing.assert_close(taken.kl[0], kl.detach())
    first = compute_losses(before, steps[0], OPTIONS)
    for found, expected in zip(taken.losses, first, strict=True):
        assert not found.requires_grad
        torch.testing.assert_close(found[0], expected.detach())
        assert not torch.equal(found[0], found[1])
    assert torch.equal(taken.weights, torch.stack([step.batch.weight for step in steps]))


def test_gradients_of_the_step_before_are_forgotten():
    first, second, (step, *_) = make(), make(), inputs()
    take(first, [step], max_norm=None)
    optimizer = build_optimizer(second, OPTIONS)
    for parameter in second.parameters():
        parameter.grad = torch.full_like(parameter, 1e3)
    take(second, [step], max_norm=None, optimizer=optimizer)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_weights_that_were_exchanged_are_trained():
    """A checkpoint's weights come after the optimizer was made, and may bring memory of their own."""
    policy, (step, *_) = make(), inputs()
    optimizer = build_optimizer(policy, OPTIONS)
    for parameter in policy.parameters():
        parameter.data = parameter.detach() + 0.1
    before = weights_of(policy)
    take(policy, [step], optimizer=optimizer)
    moved = {name for name, p in policy.named_parameters() if not torch.equal(p, before[name])}
    assert moved == set(before)


def test_a_gradient_that_is_not_finite_leaves_the_weights_alone():
    policy, (step, *_) = make(), inputs()
    optimizer, before = build_optimizer(policy, OPTIONS), weights_of(policy)
    step.batch.returns[0, 0] = torch.nan
    with pytest.raises(
        NonFiniteError, match=r"critic is not finite in rollout 0, gradient step 0 .*in the loss: value$"
    ):
        take(policy, [step], optimizer=optimizer)
    assert all(torch.equal(p, before[name]) for name, p in policy.named_parameters())
    assert all(state["step"] == 0 for state in optimizer.state.values())
