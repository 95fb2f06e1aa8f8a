"""Gradient steps with a combiner: which gradients are combined, how they are scaled, and what stays as it was."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import collect, fit, generator, make_policy, make_spec, option_names, perturb, weights_of
from varshare_pl.ppo.objective import Objective
from varshare_pl.ppo.step import GradientStep, Work

from varshare_pl.combiners import GradientCombiner, GradientRule, combiner_names
from varshare_pl.envs import get_suite
from varshare_pl.errors import ConfigError, NonFiniteError
from varshare_pl.learning.optimizer import build_optimizer
from varshare_pl.networks.groups import TaskGroups
from varshare_pl.networks.size import shared_parameters
from varshare_pl.ppo.combined import CombinedStep, Combining, one_group
from varshare_pl.ppo.module import PPOModule
from varshare_pl.rollout.minibatches import Minibatches
from varshare_pl.sharing import Independent, SharedOneHot, VarShare, method_names

COMBINERS = {name: cls for name, cls in combiner_names().items() if cls.__module__.startswith("varshare_pl.")}
METHODS = {name: cls for name, cls in method_names().items() if cls.__module__.startswith("varshare_pl.")}
OBJECTIVE = Objective(clip_range=0.2, value_clip_range=0.5, value_coef=0.5, entropy_coef=0.01, kl_weight=0.1)
ADAM = (3e-3, 1e-3, 7e-3, 1e-5, 1e-8)
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


def works(policy, ragged=True, minibatches=3, local=True):
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
    noise = policy.actor.draw_weight_noise(generator(3))
    for batch in Minibatches(rows, TaskGroups.from_rows(task, M), minibatches).epoch(generator(2)):
        drawn = policy.critic.draw_local_noise(*batch.weight.shape, np.random.Generator(np.random.SFC64(5)))
        yield Work(batch, noise, drawn if local else None)


def combined_step(policy, combiner, max_norm=None):
    combining = Combining(combiner, policy, 4, seed=1)
    return CombinedStep(policy, OBJECTIVE, build_optimizer(policy, *ADAM), max_norm, combining)


def gradients(step, work, kl_scale=None):
    """What a step clips, before the optimizer takes it."""
    norms = []
    step._advance = lambda: norms.append(step.optimizer.gradient.clone())
    step.take([work], 0, None, kl_scale)
    return norms[0]


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("method", [m for m in METHODS if m != "independent"])
def test_the_mean_is_the_plain_gradient(method, ragged):
    ours, plain = make(method), make(method)
    for work in works(plain, ragged):
        expected = gradients(GradientStep(plain, OBJECTIVE, build_optimizer(plain, *ADAM), None), work)
        found = gradients(combined_step(ours, COMBINERS["mean"]()), work)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        assert expected.abs().max() > 1e-2


NOISES = [
    {},
    {"actor_noise": "stored", "critic_noise": "flipout", "cosine_every": 1},
    {"actor_noise": "mean", "critic_noise": "weights"},
    {"sharing": VarShare(rank=2), "critic_noise": "flipout"},
    {"normalize_observations": True, "normalize_returns": "popart"},
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
    step = combined_step(policy, combiner)
    for work in works(policy):
        gradients(step, work)
        present = work.batch.group_task.tolist()
        assert present == [0, 1, 2, 4, 5]
        for network, torso in policy.networks():
            given = combiner.seen[network]
            assert given.tasks.tolist() == present
            for row, loss, group in zip(given.gradients, given.losses, range(5), strict=True):
                one = one_group(work, group)
                surrogate, error, entropy = OBJECTIVE(policy, *one).sums.sum(1)
                total = surrogate - 0.01 * entropy if network == "actor" else 0.5 * error
                total = total * 5  # shares of five tasks
                own = torch.autograd.grad(total, shared_parameters(torso, 4), materialize_grads=True)
                torch.testing.assert_close(loss, total.detach())
                # in the optimizer's order, which is that of the parameters
                torch.testing.assert_close(row, torch.cat([g.flatten() for g in own]), rtol=1e-4, atol=1e-6)


def test_what_is_shared_in_varshare():
    policy = make()
    names = {id(p): name for name, p in policy.actor.named_parameters()}
    found = {names[id(p)].rpartition(".")[2] for p in shared_parameters(policy.actor, 4)}
    assert found == {"theta", "bias"}
    assert {names[id(p)] for p in shared_parameters(policy.actor, 4)} >= {"stack.head.theta", "stack.layer_1.bias"}


@pytest.mark.parametrize("method", METHODS)
def test_no_tasks_own_part_is_shared(method):
    """By the gradients of all tasks: what two tasks' losses move is shared, what only one moves is not."""
    policy = make(method)
    (work, *_) = works(policy, ragged=False, minibatches=1)
    groups = [one_group(work, g) for g in range(M)]
    for _, torso in policy.networks():
        shared = {id(p) for p in shared_parameters(torso, 4)}
        parameters = list(torso.parameters())
        moved = [
            torch.autograd.grad(OBJECTIVE.data_terms(policy, *g)[0].sum(), parameters, materialize_grads=True)
            for g in groups
        ]
        for parameter, *own in zip(parameters, *moved, strict=True):
            count = torch.stack([g != 0 for g in own]).sum(0)
            assert bool((count > 1).any()) == (id(parameter) in shared)


def test_own_parameters_and_the_kl_are_not_combined():
    ours, plain = make(), make()
    (work, *_) = works(plain)
    expected = gradients(GradientStep(plain, OBJECTIVE, build_optimizer(plain, *ADAM), None), work)
    step = combined_step(ours, Nothing())
    found = gradients(step, work)
    split, reference = step.optimizer.split(found), build_optimizer(plain, *ADAM).split(expected)
    for (name, mine), other in zip(ours.named_parameters(), plain.parameters(), strict=True):
        if name.endswith(("theta", "bias")):
            assert not split[id(mine)].any()
        else:
            torch.testing.assert_close(split[id(mine)], reference[id(other)], rtol=1e-5, atol=1e-6)
            without = gradients(step, work, kl_scale=0.0)
            assert not torch.equal(step.optimizer.split(without)[id(mine)], split[id(mine)])


@pytest.mark.parametrize("name", ["uncertainty", "famo"])
def test_a_weighting_of_losses_weighs_the_whole_loss_of_a_task(name):
    ours, plain = make(), make()
    step = combined_step(ours, COMBINERS[name]())
    for work in works(plain, minibatches=2):
        weights = {}
        for network, rule in step._combining.rules.items():
            rule.weights, keep = _kept(weights, network, rule.weights), rule.weights
            rule.keep = keep
        found = gradients(step, work)
        for rule in step._combining.rules.values():
            rule.weights = rule.keep
        actor, critic = (weights[n][work.batch.group_task] for n in ("actor", "critic"))
        losses = OBJECTIVE(plain, *work)
        surrogate, error, entropy = losses.sums
        total = (actor * (surrogate - 0.01 * entropy)).sum() + (critic * 0.5 * error).sum()
        total = total + OBJECTIVE.kl_scale(plain) * losses.kl.sum()
        own = torch.autograd.grad(total, list(plain.parameters()))
        split = step.optimizer.split(found)
        for mine, gradient in zip(ours.parameters(), own, strict=True):
            torch.testing.assert_close(split[id(mine)], gradient, rtol=1e-4, atol=1e-6)
    assert not torch.equal(weights["critic"], torch.ones(M))


def _kept(weights, network, function):
    def call(*args):
        weights[network] = function(*args)
        return weights[network]

    return call


def test_clipping_comes_after_combining():
    policy = make()
    (work, *_) = works(policy)
    step = combined_step(policy, COMBINERS["pcgrad"](), max_norm=0.01)
    gradient = gradients(step, work)
    for part in step.optimizer.parts(gradient):
        assert float(part.norm()) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("name", COMBINERS)
def test_a_gradient_that_is_not_finite_leaves_the_weights_alone(name):
    policy = make()
    before = weights_of(policy)
    (work, *_) = works(policy)
    work.batch.returns[0, 0] = torch.nan
    step = combined_step(policy, COMBINERS[name]())
    with pytest.raises(NonFiniteError, match=r"critic is not finite in rollout 0, gradient step 0 .*: total, value"):
        step.take([work], 0, None)
    assert all(torch.equal(p, before[n]) for n, p in policy.named_parameters())


def spec_of(suite):
    return make_spec(get_suite(suite), rollout_rows=128)


def test_refusals():
    pcgrad = COMBINERS["pcgrad"]
    with pytest.raises(ConfigError, match=r"model.combiner: pcgrad is not allowed where tasks share no parameter"):
        PPOModule(spec_of(SUITE), Independent(), combiner=pcgrad(), minibatch_size=64)
    with pytest.raises(ConfigError, match=r"model.combiner: pcgrad is not allowed with one task"):
        PPOModule(spec_of("CartPole"), VarShare(), combiner=pcgrad(), minibatch_size=64)
    with pytest.raises(ConfigError, match=r"model.compile: true is not allowed with model.combiner"):
        PPOModule(spec_of(SUITE), VarShare(), combiner=pcgrad(), minibatch_size=64, compile=True)


def test_mixed_precision():
    run = fit({"total_env_steps": 256}, trainer={"precision": "bf16-mixed"}, combiner=COMBINERS["pcgrad"]())
    assert run.records[-1].metrics["gradient_steps"] == 8


def test_a_loss_scale_is_refused():
    module = PPOModule(spec_of(SUITE), VarShare(), combiner=COMBINERS["pcgrad"](), minibatch_size=64)
    plugin = SimpleNamespace(scaler=object())  # there is one on GPUs only
    module._trainer = SimpleNamespace(precision="16-mixed", precision_plugin=plugin, world_size=1)
    with pytest.raises(ConfigError, match=r"trainer.precision: 16-mixed is not allowed with model.combiner"):
        module.setup("fit")


def test_target_kl_stops_an_update():
    run = fit({"total_env_steps": 128}, combiner=COMBINERS["mgda"](), target_kl=1e-9, sharing=SharedOneHot())
    assert run.records[0].metrics["diagnostics/stopped_early"] == 1.0
    assert run.records[0].metrics["gradient_steps"] == 1
