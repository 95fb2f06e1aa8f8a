"""Whole runs with every action distribution: learning, noise, combiners, normalisation, resume, machine code."""

import numpy as np
import pytest
import torch
from helpers import PLAIN, collect, fit, make_policy, perturb, randn, trace, update
from reach import ACTIONS, parts
from stopping import StopAfter

from varshare_pl.combiners.aggregators import PCGrad
from varshare_pl.combiners.loss_weights import FAMO
from varshare_pl.errors import NonFiniteError
from varshare_pl.networks.actions import make_distribution
from varshare_pl.networks.options import ActionOptions
from varshare_pl.ppo import compiled
from varshare_pl.ppo.module import PPOModule
from varshare_pl.sharing import Independent, Shared, VarShare
from varshare_pl.trained.evaluation import evaluate
from varshare_pl.trained.policy import TrainedPolicy
from varshare_pl.types import RolloutPlan

every_distribution = pytest.mark.parametrize("name", ACTIONS)
gaussians = pytest.mark.parametrize("name", [name for name in ACTIONS if "ca" not in name and "multi" not in name])


def run(name, callbacks=(), rollouts=3, ckpt_path=None, **options):
    suite, own = parts(name)
    data = {"suite": suite, "num_envs": 8, "rollout_steps": 16, "total_env_steps": rollouts * 128}
    return fit(data, callbacks, ckpt_path=ckpt_path, **own, **options)


@every_distribution
def test_a_run_learns(name):
    """Who does not look earns −0.67; who looks 0, with steps of ½ and 1 −0.1, with one step of ½ for both −0.35."""
    suite, own = parts(name)
    data = {"suite": suite, "num_envs": 16, "rollout_steps": 32, "total_env_steps": 40 * 512}
    options = {"lr_actor": 1e-2, "lr_critic": 1e-2, "minibatch_size": 128, "hidden_sizes": (16,)}
    options["entropy_coef"] = 0.05 if name in ("categorical", "multi-discrete") else 0.0
    policy = fit(data, sharing=Independent(), **own, **options).module.policy
    returns = evaluate(policy.deterministic(), suite, 200, 1, 0).task_returns
    assert (returns > {"categorical": -0.43, "multi-discrete": -0.2}.get(name, -0.05)).all()


@every_distribution
@pytest.mark.parametrize("mode", ["rollout", "stored", "mean"])
def test_the_ratio_starts_at_one(name, mode):
    records = run(name, sharing=VarShare(), actor_noise=mode).records
    assert max(record.metrics["diagnostics/first_ratio_deviation"] for record in records) < 1e-4
    assert all(np.isfinite(list(record.metrics.values())).all() for record in records)


@every_distribution
@pytest.mark.parametrize("combiner", [PCGrad, FAMO])
def test_combiners(name, combiner):
    module = run(name, sharing=VarShare(), combiner=combiner()).module
    shared = {id(p) for p in module.combining.shared["actor"]}
    log_std = list(module.policy.distribution.parameters())
    assert all((id(p) in shared) == (name == "gaussian, shared") for p in log_std)
    assert all((p != 0).all() for p in log_std)  # it moved


@every_distribution
def test_normalisers(name):
    scopes = dict.fromkeys(("normalize_observations", "normalize_returns", "normalize_rewards"), "task")
    noise = {"actor_noise": "fresh", "critic_noise": "weights"}
    records = run(name, sharing=Shared(), popart=True, **noise, **scopes).records
    assert all(np.isfinite(list(record.metrics.values())).all() for record in records)


@every_distribution
def test_a_resumed_run_goes_on_exactly(name, tmp_path):
    whole, path = run(name, rollouts=4), tmp_path / "stopped.ckpt"
    run(name, [StopAfter(2, path)], rollouts=4)
    rest = run(name, rollouts=4, ckpt_path=path)
    state, expected = rest.module.state_dict(), whole.module.state_dict()
    torch.testing.assert_close(dict(state), dict(expected), rtol=0, atol=0)
    assert ("policy.distribution.log_std" in state) == (name in ("gaussian", "gaussian, shared", "tanh"))


@pytest.mark.parametrize("name", ["multi-discrete", "gaussian", "tanh, network"])
def test_traced_steps_and_acting_are_eager_ones(name, monkeypatch):
    """In the graphs that the compiler would get: whole rollouts, and gradient steps."""
    from varshare_pl.rollout import chunks

    monkeypatch.setattr(compiled, "compile_function", trace)
    monkeypatch.setattr(chunks, "compile_function", trace)
    suite, own = parts(name)
    states = []
    for traced in (False, True):
        data = {"suite": suite, "num_envs": 4, "rollout_steps": 8, "total_env_steps": 64, "backend": "torch"}
        options = {"minibatch_size": 16, "update_epochs": 1, "compile": traced, "target_kl": 10.0}
        states.append(dict(fit(data, sharing=VarShare(), **own, **options).module.state_dict()))
    torch.testing.assert_close(states[1], states[0], rtol=1e-4, atol=1e-5)


@every_distribution
@pytest.mark.parametrize("backend", ["batched", "torch", "sync"])
def test_backends_give_the_same_rollout(name, backend):
    suite, own = parts(name)
    policy = make_policy(suite.env_spec(), **own)
    perturb(policy)
    one, two = (collect(policy, suite, 4, 16, backend=kind)[0] for kind in ("batched", backend))
    for field in ("obs", "actions", "dist_params", "rewards"):
        torch.testing.assert_close(getattr(one, field), getattr(two, field), rtol=0, atol=1e-6)
    distribution = make_distribution(suite.action_space, 2, ActionOptions(**own))
    assert one.actions.shape[2:] == suite.action_space.shape
    noise = one.noise[..., : one.noise.shape[-1]]
    torch.testing.assert_close(distribution.sample(one.dist_params, noise), one.actions)


@pytest.mark.parametrize(("name", "task"), [("gaussian", 0), *((name, 1) for name in ACTIONS)])
def test_exported_policies_act_as_they_are(name, task, tmp_path):
    suite, own = parts(name)
    policy = make_policy(suite.env_spec(), **own)
    perturb(policy)
    trained = TrainedPolicy(policy, suite, "varshare", 0)
    module = torch.export.load(trained.export(tmp_path / f"{task}.pt2", task)).module()
    for rows in (1, 2, 9):
        obs = randn(rows, 2, dtype=torch.float32)
        actions, params = module(obs)
        torch.testing.assert_close(actions, trained(obs, task), rtol=0, atol=1e-6)
        assert params.shape == (rows, {"categorical": 5, "multi-discrete": 8}.get(name, 4))
        assert all(suite.action_space.contains(action) for action in trained(obs.numpy(), task))
        drawn = trained(obs.numpy(), task, generator=torch.Generator().manual_seed(1))
        assert all(suite.action_space.contains(action) for action in drawn)
    assert suite.action_space.contains(trained(np.zeros(2, np.float32), 0))


@gaussians
def test_the_std_of_actions_is_recorded(name):
    finished = run(name, sharing=Shared(), log_std_init=-0.5)
    found = [[d for d in record.details if d.metric == "diagnostics/action_std"] for record in finished.records]
    first, last = found[0], found[-1]
    assert [(d.network, d.task) for d in first] == [("actor", 0), ("actor", 1)]
    assert [d.value for d in first] == pytest.approx([np.exp(-0.5)] * 2, rel=0.02)
    assert [d.value for d in first] != [d.value for d in last]


@every_distribution
def test_the_exact_kl_of_an_update_is_recorded(name):
    """And the usual estimate of it, over many rows, is near."""
    suite, own = parts(name)
    policy = make_policy(suite.env_spec(), Shared(), **own)
    (rollout,) = collect(policy, suite, 8, 1024)
    plan, options = RolloutPlan(8192, 1), {"hidden_sizes": (8, 8), "minibatch_size": 8192}
    module = PPOModule(suite.env_spec(), plan, Shared(), **options, **own, **PLAIN)
    module.policy.load_state_dict(policy.state_dict())
    module.configure_optimizers()
    record = module.learn(rollout)
    found = [d.value for d in record.details if d.metric == "kl/update"]
    old = rollout.dist_params.flatten(0, 1)
    with torch.no_grad():
        task = rollout.task.flatten()
        outputs = module.policy.actor(rollout.obs.flatten(0, 1), task)
        beside = module.policy.distribution.prepare(task)
        params = module.policy.distribution.params(outputs.unsqueeze(1), beside).squeeze(1)
        log_prob = module.policy.distribution.log_prob
        actions = rollout.actions.flatten(0, 1)
        log_ratio = log_prob(params, actions) - log_prob(old, actions)
    estimate = [float((log_ratio.expm1() - log_ratio)[task == m].mean()) for m in (0, 1)]
    assert min(found) > 1e-4
    assert found == pytest.approx(estimate, rel=0.1)
    assert not [d for d in run(name, rollouts=3).records[1].details if d.metric == "kl/update"]


@gaussians
@pytest.mark.parametrize("backend", ["batched", "torch"])
def test_an_action_that_is_no_number_ends_the_run_in_one_line(name, backend, monkeypatch):
    suite, own = parts(name)
    policy = make_policy(suite.env_spec(), **own)
    with torch.no_grad():
        policy.actor.stack["head"].bias.fill_(torch.nan)
    with pytest.raises(NonFiniteError, match=r"^an action of task 0 is not finite; "):
        collect(policy, suite, 4, 8, backend=backend)
    with pytest.raises(NonFiniteError, match=r"^an action of task 0 is not finite; "):
        evaluate(policy.deterministic(), suite, 2, 1, 0)


def test_log_std_moves_at_its_own_rate():
    suite, own = parts("gaussian")
    rates = {"lr_log_std": 0.125, "lr_actor": 1e-3, "max_grad_norm": None}
    policy = make_policy(suite.env_spec(), Shared(), **own)
    (rollout,) = collect(policy, suite, 8, 16)
    before = policy.distribution.log_std.detach().clone()
    update(policy, rollout, number=1, update_epochs=1, **rates)
    moved = (policy.distribution.log_std - before).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, 0.125), rtol=1e-2, atol=0)  # Adam's first step
