"""Gradient steps with a combiner: which gradients are combined, how they are scaled, and what stays as it was."""

from types import SimpleNamespace

import pytest
import torch
from helpers import collect, fit, generator, make_policy, option_names, perturb, weights_of

from varshare_pl.combiners import GradientCombiner, GradientRule, combiner_names
from varshare_pl.envs import get_suite
from varshare_pl.errors import ConfigError, NonFiniteError
from varshare_pl.learning.optimizer import build_optimizer
from varshare_pl.networks.groups import TaskGroups
from varshare_pl.networks.noise import local_noise, weight_noise
from varshare_pl.networks.size import shared_parameters
from varshare_pl.ppo.combined import CombinedSteps, Combining, one_group
from varshare_pl.ppo.losses import StepInput, compute_losses, kl_scale, total_loss
from varshare_pl.ppo.module import PPOModule
from varshare_pl.ppo.options import Options
from varshare_pl.ppo.update import PlainSteps
from varshare_pl.rollout.minibatches import minibatches, task_weights
from varshare_pl.sharing import Independent, SharedOneHot, VarShare, method_names
from varshare_pl.sharing.varshare import VarShareLowRank
from varshare_pl.types import RolloutPlan

COMBINERS = {name: cls for name, cls in combiner_names().items() if cls.__module__.startswith("varshare_pl.")}
METHODS = {name: cls for name, cls in method_names().items() if cls.__module__.startswith("varshare_pl.")}
OPTIONS = Options(value_clip_range=0.5, lr_actor=3e-3, lr_critic=1e-3, lr_log_var=7e-3)
SUITE = "MultiTaskCartPole"
M = 6


class Keep(GradientCombiner):
    """The mean, and what it was made of."""

    def __init__(self):
        self.seen = {}

    def make(self, spec):
        return _KeepRule(self.seen, spec.network)


class _KeepRule(GradientRule):
    def __init__(self, seen, network):
        self.seen, self.network = seen, network

    def combine(self, given):
        self.seen[self.network] = given
        return given.gradients.mean(0)


class Nothing(GradientCombiner):
    """Combines all gradients to zeros."""

    def make(self, spec):
        rule = _KeepRule({}, spec.network)
        rule.combine = lambda given: torch.zeros_like(given.gradients[0])
        return rule


def make(method="varshare"):
    policy = make_policy(SUITE, METHODS[method]())
    perturb(policy, 0.2)
    return policy


def inputs(policy, ragged=True, number=3, local=True):
    """Minibatches with noise; ragged: task 3 has no rows, and the others have different numbers."""
    (rollout,) = collect(policy, SUITE, 6, 30, mode="mean")
    task = rollout.task.flatten()
    keep = torch.ones_like(task, dtype=torch.bool)
    if ragged:
        keep = (task != 3) & ((task != 1) | (torch.arange(len(task)) < 60))
    task = task[keep]
    columns = torch.randn(4, len(task), generator=generator(1))
    rows = dict(zip(("log_prob", "values", "advantages", "returns"), columns, strict=True))
    rows["log_prob"] = rows["log_prob"] * 0.1 - 0.7
    rows |= {"obs": rollout.obs.flatten(0, 1)[keep], "actions": rollout.actions.flatten()[keep], "task": task}
    of_actor = [weight_noise(layer, generator(3)) for _, layer in policy.actor.layers()]
    groups = TaskGroups.from_rows(task, M)
    for batch in minibatches(rows, groups, number, task_weights(task, M), generator(2)):
        of_critic = [local_noise(layer, *batch.weight.shape, generator(5)) for _, layer in policy.critic.layers()]
        yield StepInput(batch, of_actor, of_critic if local else None)


def plain_steps(policy):
    return PlainSteps(policy, build_optimizer(policy, OPTIONS), OPTIONS, None)


def combined_steps(policy, combiner, max_norm=None):
    optimizer = build_optimizer(policy, OPTIONS)
    return CombinedSteps(policy, optimizer, OPTIONS, max_norm, Combining(combiner, policy, seed=1))


def gradients(steps, step, scale=None):
    """By parameter, what a step hands to the optimizer, which does not take it."""
    steps.optimizer.step = lambda: None
    steps.run([step], kl_scale(OPTIONS.kl_weight, steps.policy) if scale is None else scale, 0)
    return {name: p.grad.clone() for name, p in steps.policy.named_parameters()}


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("method", [m for m in METHODS if m != "independent"])
def test_the_mean_is_the_plain_gradient(method, ragged):
    ours, plain = make(method), make(method)
    for step in inputs(plain, ragged):
        expected = gradients(plain_steps(plain), step)
        found = gradients(combined_steps(ours, COMBINERS["mean"]()), step)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        assert max(gradient.abs().max() for gradient in expected.values()) > 1e-2


NOISES = [
    {},
    {"actor_noise": "stored", "cosine_every": 1},
    {"actor_noise": "mean", "critic_noise": "weights"},
    {"sharing": VarShareLowRank(rank=2), "critic_noise": "weights"},
    {"normalize_observations": "task", "normalize_returns": "task", "popart": True},
]


@pytest.mark.parametrize("options", NOISES, ids=option_names)
def test_torchjds_mean_trains_as_plain_training_does(options):
    data = {"suite": "ComplexCartPole", "num_envs": 5, "total_env_steps": 160}
    plain = weights_of(fit(data, minibatch_size=80, **options).module.policy)
    found = weights_of(fit(data, minibatch_size=80, combiner=COMBINERS["mean"](), **options).module.policy)
    for name, value in plain.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("method", ["varshare", "shared_onehot", "soft_modularization"])
def test_rows_are_each_tasks_gradient_of_its_mean_loss(method):
    policy, combiner = make(method), Keep()
    steps = combined_steps(policy, combiner)
    for step in inputs(policy):
        gradients(steps, step)
        present = step.batch.group_task.tolist()
        assert present == [0, 1, 2, 4, 5]
        for name, _ in policy.networks():
            given = combiner.seen[name]
            assert given.tasks.tolist() == present
            for row, loss, group in zip(given.gradients, given.losses, range(5), strict=True):
                losses = compute_losses(policy, one_group(step, group), OPTIONS)
                total = losses.policy - 0.01 * losses.entropy if name == "actor" else 0.5 * losses.value
                total = total.sum() * 5  # shares of five tasks
                own = torch.autograd.grad(total, shared_parameters(policy, name), materialize_grads=True)
                torch.testing.assert_close(loss, total.detach())
                # in the order of the parameters
                torch.testing.assert_close(row, torch.cat([g.flatten() for g in own]), rtol=1e-4, atol=1e-6)


def test_what_is_shared_in_varshare():
    policy = make()
    names = {id(p): name for name, p in policy.actor.named_parameters()}
    found = {names[id(p)].rpartition(".")[2] for p in shared_parameters(policy, "actor")}
    assert found == {"theta", "bias"}
    assert {names[id(p)] for p in shared_parameters(policy, "actor")} >= {"stack.head.theta", "stack.layer_1.bias"}


@pytest.mark.parametrize("method", METHODS)
def test_no_tasks_own_part_is_shared(method):
    """By the gradients of all tasks: what two tasks' losses move is shared, what only one moves is not."""
    policy = make(method)
    (step,) = inputs(policy, ragged=False, number=1)
    groups = [one_group(step, g) for g in range(M)]
    for name, network in policy.networks():
        shared = {id(p) for p in shared_parameters(policy, name)}
        parameters = list(network.parameters())
        moved = []
        for group in groups:
            loss = total_loss(compute_losses(policy, group, OPTIONS), None, 0.0, OPTIONS)
            moved.append(torch.autograd.grad(loss, parameters, materialize_grads=True))
        for parameter, *own in zip(parameters, *moved, strict=True):
            count = torch.stack([g != 0 for g in own]).sum(0)
            assert bool((count > 1).any()) == (id(parameter) in shared)


def test_own_parameters_and_the_kl_are_not_combined():
    ours, plain = make(), make()
    (step, *_) = inputs(plain)
    expected = gradients(plain_steps(plain), step)
    steps = combined_steps(ours, Nothing())
    found, without = gradients(steps, step), gradients(steps, step, scale=0.0)
    for name, gradient in found.items():
        if name.endswith(("theta", "bias")):
            assert not gradient.any()
        else:
            torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-6)
            assert not torch.equal(without[name], gradient)


@pytest.mark.parametrize("name", ["uncertainty", "famo"])
def test_a_weighting_of_losses_weighs_the_whole_loss_of_a_task(name):
    ours, plain = make(), make()
    steps = combined_steps(ours, COMBINERS[name]())
    weights = {}
    for network, rule in steps._combining.rules.items():
        rule.weights = _kept(weights, network, rule.weights)
    for step in inputs(plain, number=2):
        found = gradients(steps, step)
        actor, critic = (weights[n][step.batch.group_task] for n in ("actor", "critic"))
        losses = compute_losses(plain, step, OPTIONS)
        total = (actor * (losses.policy - 0.01 * losses.entropy)).sum() + (critic * 0.5 * losses.value).sum()
        total = total + kl_scale(OPTIONS.kl_weight, plain) * plain.kl().sum()
        own = torch.autograd.grad(total, list(plain.parameters()))
        expected = dict(zip(found, own, strict=True))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert not torch.equal(weights["critic"], torch.ones(M))


def _kept(weights, network, function):
    def call(*args):
        weights[network] = function(*args)
        return weights[network]

    return call


def test_clipping_comes_after_combining():
    policy = make()
    (step, *_) = inputs(policy)
    gradients(combined_steps(policy, COMBINERS["pcgrad"](), max_norm=0.01), step)
    for _, network in policy.networks():
        norm = torch.cat([p.grad.flatten() for p in network.parameters()]).norm()
        assert float(norm) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("name", COMBINERS)
def test_a_gradient_that_is_not_finite_leaves_the_weights_alone(name):
    policy = make()
    before = weights_of(policy)
    (step, *_) = inputs(policy)
    step.batch.returns[0, 0] = torch.nan
    steps = combined_steps(policy, COMBINERS[name]())
    with pytest.raises(NonFiniteError, match=r"critic is not finite in rollout 0, gradient step 0 .*loss: value$"):
        steps.run([step], 1.0, 0)
    assert all(torch.equal(p, before[n]) for n, p in policy.named_parameters())


def module_of(suite, method, **options):
    plan = RolloutPlan(rows=128, count=3)
    return PPOModule(get_suite(suite).env_spec(), plan, method, COMBINERS["pcgrad"](), minibatch_size=64, **options)


def test_refusals():
    with pytest.raises(ConfigError, match=r"model.combiner: pcgrad is not allowed where tasks share no parameter"):
        module_of(SUITE, Independent())
    with pytest.raises(ConfigError, match=r"model.combiner: pcgrad is not allowed with one task"):
        module_of("CartPole", VarShare())
    with pytest.raises(ConfigError, match=r"model.compile: true is not allowed with model.combiner"):
        module_of(SUITE, VarShare(), compile=True)


def test_mixed_precision():
    run = fit({"total_env_steps": 256}, trainer={"precision": "bf16-mixed"}, combiner=COMBINERS["pcgrad"]())
    assert run.records[-1].metrics["gradient_steps"] == 8


def test_a_loss_scale_is_refused():
    module = module_of(SUITE, VarShare())
    plugin = SimpleNamespace(scaler=object())  # there is one on GPUs only
    module._trainer = SimpleNamespace(precision="16-mixed", precision_plugin=plugin, world_size=1)
    with pytest.raises(ConfigError, match=r"trainer.precision: 16-mixed is not allowed with model.combiner"):
        module.setup("fit")


def test_target_kl_stops_an_update():
    run = fit({"total_env_steps": 128}, combiner=COMBINERS["mgda"](), target_kl=1e-9, sharing=SharedOneHot())
    assert run.records[0].metrics["diagnostics/stopped_early"] == 1.0
    assert run.records[0].metrics["gradient_steps"] == 1
