"""A trained network with more tasks: what each method keeps, how a new task starts, and Adam's moments."""

from dataclasses import replace

import pytest
import torch
from gymnasium import spaces
from helpers import fit, perturb, randn

from varshare_pl.envs import get_suite
from varshare_pl.errors import ConfigError
from varshare_pl.learning.warm_start import count_new_tasks
from varshare_pl.ppo.module import PPOModule
from varshare_pl.sharing import VarShare, method_names
from varshare_pl.types import RolloutPlan

METHODS = {name: cls for name, cls in method_names().items() if cls.__module__.startswith("varshare_pl.")}
CASES = METHODS | {"varshare with options": lambda: VarShare(task_bias=True, task_embedding=3, layers="last 2")}
OWN = ("independent", "multi_head", "moore", "mixture")  # whose new tasks start as in a new network, in part
COMPLEX = get_suite("ComplexCartPole").env_spec()
SPECS = {m: replace(COMPLEX, num_tasks=m, tasks=COMPLEX.tasks[:m]) for m in (3, 5)}  # the first 3 tasks of 5
PLAN = RolloutPlan(rows=16, count=3)
SIZES = {"hidden_sizes": (8, 8), "minibatch_size": 16}


def make(method, tasks, seed=1, **options):
    return PPOModule(SPECS[tasks], PLAN, CASES[method](), seed=seed, **SIZES | options)


def set_gradients(module, seed):
    for k, parameter in enumerate(module.parameters()):
        parameter.grad = randn(*parameter.shape, seed=1000 * seed + k).float()


def checkpoint_of(module, steps=0):
    """As Lightning writes one, after some steps of Adam with made-up gradients."""
    optimizer = module.configure_optimizers()
    for k in range(steps):
        set_gradients(module, k)
        optimizer.step()
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    checkpoint = {"state_dict": state, "optimizer_states": [optimizer.state_dict()]}
    module.on_save_checkpoint(checkpoint)
    return checkpoint


def outputs(module, tasks):
    x = randn(6, 4, dtype=torch.float32)
    with torch.no_grad():
        return [
            torch.stack([network(x, torch.full((6,), task)) for task in tasks])
            for _, network in module.policy.networks()
        ]


@pytest.mark.parametrize("method", CASES)
def test_old_tasks_compute_what_they_did(method):
    old, new = make(method, 3), make(method, 5, seed=9)
    perturb(old)
    new.load_weights(checkpoint_of(old))
    assert new.warm_start.new_tasks == 2
    torch.testing.assert_close(outputs(new, range(3)), outputs(old, range(3)))


@pytest.mark.parametrize("method", [m for m in CASES if m not in (*OWN, "shared_onehot", "varshare_low_rank")])
def test_a_new_task_starts_where_sharing_alone_would_be(method):
    old, new = make(method, 3), make(method, 5, seed=9)
    perturb(old)
    new.load_weights(checkpoint_of(old))
    x = randn(1, 6, 4, dtype=torch.float32)
    for (_, before), (_, after) in zip(old.policy.networks(), new.policy.networks(), strict=True):
        with torch.no_grad():
            expected = before.compute(before.prepare_shared(torch.tensor([0])), x)[0]
            for task in (3, 4):
                if method in ("care", "soft_modularization"):  # their shared part is not defined; the embedding's mean
                    torch.testing.assert_close(after.task_embedding[task], before.task_embedding.mean(0))
                else:
                    torch.testing.assert_close(after(x[0], torch.full((6,), task)), expected)


def test_the_residual_starts_at_0_in_the_gauge():
    old, new = make("varshare", 3), make("varshare", 5, seed=9)
    perturb(old)
    new.load_weights(checkpoint_of(old))
    for (*_, before), (*_, after) in zip(old.policy.layers(), new.policy.layers(), strict=True):
        (theta, mu), (grown_theta, grown_mu) = before.shared_and_residual(), after.shared_and_residual()
        torch.testing.assert_close(grown_theta, theta)  # and so no other task's μ̃ changes
        torch.testing.assert_close(grown_mu[:3], mu)
        assert grown_mu[3:].abs().max() < 1e-6
        start = 2 * torch.tensor(after.initial_sigma * after.prior_std).log()
        torch.testing.assert_close(after.log_var[3:], start.expand_as(after.log_var[3:]))
        assert torch.equal(after.log_var[:3], before.log_var)


@pytest.mark.parametrize("method", OWN)
def test_own_parts_of_a_new_task_are_those_of_a_new_network(method):
    old, new, fresh = make(method, 3), make(method, 5, seed=9), make(method, 5, seed=9)
    perturb(old)
    new.load_weights(checkpoint_of(old))
    name = "policy.actor.head_weight" if method in ("moore", "mixture") else "policy.actor.stack.head.weight"
    found, start = new.state_dict()[name], fresh.state_dict()[name]
    assert torch.equal(found[3:], start[3:])
    assert torch.equal(found[:3], old.state_dict()[name])


def test_a_new_task_of_low_rank_starts_at_theta():
    old, new = make("varshare_low_rank", 3), make("varshare_low_rank", 5, seed=9)
    perturb(old)
    new.load_weights(checkpoint_of(old))
    for (*_, before), (*_, after) in zip(old.policy.layers(), new.policy.layers(), strict=True):
        assert torch.equal(after.prepare(torch.tensor([4])).weight[0], before.theta)
        assert after.mu_a[4].any()  # or neither factor would ever learn


def test_a_new_column_of_the_one_hot_input_is_0():
    old, new = make("shared_onehot", 3), make("shared_onehot", 5, seed=9)
    perturb(old)
    new.load_weights(checkpoint_of(old))
    weight = new.policy.actor.stack["layer_1"].weight
    assert torch.equal(weight[:, :7], old.policy.actor.stack["layer_1"].weight)
    assert not weight[:, 7:].any()


@pytest.mark.parametrize("method", CASES)
def test_moments_of_old_tasks_are_kept(method):
    """What is new has no first moment, and the mean of the parameter's second moments."""
    old, new = make(method, 3), make(method, 5, seed=9)
    perturb(old)
    before = old.configure_optimizers()
    checkpoint = checkpoint_of(old, steps=3)
    before.load_state_dict(checkpoint["optimizer_states"][0])
    new.load_weights(checkpoint)
    after = new.configure_optimizers()
    for (name, p), q in zip(old.named_parameters(), new.parameters(), strict=True):
        for moment, rest in (("exp_avg", torch.zeros(())), ("exp_avg_sq", before.state[p]["exp_avg_sq"].mean())):
            found, expected = after.state[q][moment].clone(), before.state[p][moment]
            kept = found[tuple(slice(size) for size in expected.shape)]
            assert expected.any(), name
            assert torch.equal(kept, expected), name
            kept.fill_(rest)
            torch.testing.assert_close(found, rest.expand_as(found))
        assert after.state[q]["step"] == 3


@pytest.mark.parametrize("method", CASES)
def test_the_first_step_of_what_is_new_is_no_longer_than_the_learning_rate(method):
    """With second moments of 0 it would be three times as long: Adam's correction for its start is over."""
    old, new = make(method, 3), make(method, 5, seed=9, anneal_lr=False)
    new.load_weights(checkpoint_of(old, steps=300))
    optimizer = new.configure_optimizers()
    before = {name: p.detach().clone() for name, p in new.named_parameters()}
    set_gradients(new, 1)
    optimizer.step()
    for (name, p), q in zip(old.named_parameters(), new.parameters(), strict=True):
        moved = (q.detach() - before[name]).abs() / 5e-3
        assert moved.max() < 1.5, name
        if p.shape != q.shape:
            moved[tuple(slice(size) for size in p.shape)] = 0.0
            assert moved.any(), name


def test_a_new_tasks_observations_are_normalised_as_the_others_until_its_first_rows():
    old, new = (make("varshare", m, normalize_observations="task") for m in (3, 5))
    moments, grown = old.policy.observation_moments, new.policy.observation_moments
    moments.update(randn(30, 4) * 5 + 2, torch.arange(30) % 3)
    new.load_weights(checkpoint_of(old))
    assert grown.count.tolist() == [10, 10, 10, 0, 0]
    torch.testing.assert_close(grown.mean, torch.cat([moments.mean, moments.mean.mean(0).expand(2, 4)]))
    torch.testing.assert_close(grown.variance, torch.cat([moments.variance, moments.variance.mean(0).expand(2, 4)]))
    rows = randn(8, 4, seed=3)
    grown.update(rows, torch.full((8,), 4))
    torch.testing.assert_close(grown.mean[4], rows.mean(0).float())
    torch.testing.assert_close(grown.variance[4], rows.var(0, correction=0).float())


def test_a_new_task_has_the_scale_that_tasks_share():
    options = {"normalize_observations": "shared", "normalize_returns": "shared", "popart": True}
    old, new = (make("varshare", m, **options, normalize_rewards="shared") for m in (3, 5))
    moments, grown = old.policy.observation_moments, new.policy.observation_moments
    moments.update(randn(30, 4) * 5 + 2, torch.arange(30) % 3)
    old.policy.return_moments.update(randn(30) * 7 - 1, torch.arange(30) % 3)
    new.load_weights(checkpoint_of(old))
    for name in ("observation_moments", "return_moments", "reward_moments"):
        same = dict(new.policy.get_submodule(name).state_dict()), dict(old.policy.get_submodule(name).state_dict())
        torch.testing.assert_close(*same, rtol=0, atol=0)
    rows, mean = randn(30, 4, seed=3) + 9, moments.mean[0].clone()
    torch.testing.assert_close(grown.by_task()[0][4], mean)
    grown.update(rows, torch.full((30,), 4))
    torch.testing.assert_close(grown.mean[0], (mean + rows.mean(0).float()) / 2)  # as many rows as all before


def test_the_learning_rates_are_the_new_runs():
    old = make("varshare", 3)
    new = make("varshare", 5, lr_actor=1e-4)
    new.load_weights(checkpoint_of(old, steps=1))
    assert [g["lr"] for g in new.configure_optimizers().param_groups][:2] == [1e-4, 1e-4]


def test_as_many_tasks_take_the_weights_alone():
    old, new = make("varshare", 3), make("varshare", 3, seed=9)
    perturb(old)
    new.load_weights(checkpoint_of(old, steps=2))
    assert new.warm_start.new_tasks == 0
    optimizer = new.configure_optimizers()
    assert not any(state["step"] for state in optimizer.state.values())
    torch.testing.assert_close(outputs(new, range(3)), outputs(old, range(3)))


@pytest.mark.parametrize(
    ("tasks", "saved", "match"),
    [
        (3, {"num_tasks": 5}, "the checkpoint has 5 tasks, data.suite has 3"),
        (5, {"num_tasks": 3}, "does not tell its tasks"),
        (5, {"num_tasks": 2, "tasks": [SPECS[5].tasks[0], "another: task"]}, r"its task 1 is \(short light pole: "),
    ],
)
def test_suites_that_do_not_go_on_are_refused_in_one_line(tasks, saved, match):
    with pytest.raises(ConfigError, match=match) as caught:
        count_new_tasks({"varshare": saved}, SPECS[tasks])
    assert str(caught.value).startswith("--init_from: ")
    assert "\n" not in str(caught.value)


def test_a_checkpoint_that_differs_in_more_is_refused():
    new = make("varshare", 5, hidden_sizes=(8, 9))
    with pytest.raises(ConfigError, match="has the shape"):
        new.load_weights(checkpoint_of(make("varshare", 3)))


def test_suites_know_a_task_again():
    complex_, plain = get_suite("ComplexCartPole").identities(), get_suite("CartPole").identities()
    assert plain == complex_[:1]
    assert len(set(complex_)) == 5
    own = [{"id": "MountainCar-v0", "name": "a", "attributes": {"force": force}} for force in (0.001, 0.002)]
    assert get_suite(own[:1]).identities() != get_suite(own[1:]).identities()
    longer = [own[0], "MountainCar-v0"]
    assert get_suite(longer).identities()[0] == get_suite(own[:1]).identities()[0]


def trained_checkpoint(**options):
    """Lightning's own, of one task."""
    first = fit({"suite": "CartPole"}, **options)
    checkpoint = {"state_dict": {name: tensor.clone() for name, tensor in first.module.state_dict().items()}}
    checkpoint["optimizer_states"] = [first.trainer.optimizers[0].state_dict()]
    first.module.on_save_checkpoint(checkpoint)
    return checkpoint, first.records[-1].metrics["gradient_steps"]


def grown(checkpoint, **options):
    class Grown(PPOModule):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.load_weights(checkpoint)

    return fit({"suite": "MirroredCartPole", "total_env_steps": 128}, module_class=Grown, **options)


def test_training_goes_on_with_more_tasks():
    checkpoint, steps_before = trained_checkpoint()
    run = grown(checkpoint)
    assert run.module.warm_start.new_tasks == 1
    (optimizer,) = run.trainer.optimizers
    steps = steps_before + run.records[-1].metrics["gradient_steps"]
    assert {state["step"].item() for state in optimizer.state.values()} == {steps}


def test_the_first_step_of_a_new_task_in_a_run_is_no_longer_than_the_learning_rate():
    checkpoint, steps = trained_checkpoint(minibatch_size=4, update_epochs=8)
    assert steps > 700  # Adam's correction for its start is over
    run = grown(checkpoint, update_epochs=1, minibatch_size=128)  # one step
    assert run.records[-1].metrics["gradient_steps"] == 1
    for name, parameter in run.module.named_parameters():
        if name.endswith(".mu"):
            moved = (parameter.detach() - run.module.warm_start.state[name])[1].abs() / 5e-3
            assert 0.05 < moved.max() < 1.5, name


@pytest.mark.parametrize("kind", ["task", "shared"])
def test_log_std_of_a_new_task_is_as_in_a_new_network(kind):
    """It has yet to explore; old tasks keep theirs, and Adam's moments."""
    box = spaces.Box(-1.0, 1.0, (2,))
    specs = {m: replace(spec, action_space=box) for m, spec in SPECS.items()}
    options = SIZES | {"log_std": kind, "log_std_init": -0.25}
    old, new = (PPOModule(specs[m], PLAN, VarShare(), seed=1, **options) for m in (3, 5))
    perturb(old)
    new.load_weights(checkpoint_of(old, steps=3))
    before, after = (module.policy.distribution.log_std.detach() for module in (old, new))
    assert torch.equal(after[:3], before)
    assert (after[3:] == -0.25).all()
    (group,) = (g for g in new.configure_optimizers().param_groups if g["name"] == "actor_log_std")
    assert group["params"] == [new.policy.distribution.log_std]
