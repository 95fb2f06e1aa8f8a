"""What acting and learning with every sharing method must do; a new method is picked up by itself."""

import pytest
import torch
from every_method import METHODS, every_method
from helpers import collect, fit, make_policy, perturb, randn, trace
from reach import ACTIONS, parts
from stopping import StopAfter

from varshare_pl.envs import get_suite
from varshare_pl.learning.acting import ActingPolicy
from varshare_pl.learning.weight_noise import make_actor_noise
from varshare_pl.networks.groups import TaskGroups
from varshare_pl.ppo import compiled
from varshare_pl.ppo.module import PPOModule
from varshare_pl.types import RolloutPlan

SUITE = "MirroredCartPole"

pytestmark = every_method


@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("mode", ["rollout", "stored"])
def test_pure_acting_equals_acting(method, mode, name):
    suite, options = parts(name)
    policy = make_policy(suite.env_spec(), METHODS[method](), **options)
    perturb(policy)
    groups = TaskGroups.from_rows(torch.tensor([0, 1, 0, 1, 1]), 2)
    obs = randn(5, 2, dtype=torch.float32)
    eager, pure = (ActingPolicy(policy, make_actor_noise(mode, policy.actor, 1), 1, 0) for _ in range(2))
    noise = eager.draw_noise(1, 5)[0]
    tensors = pure.tensors(groups)
    for one, two in zip(eager.act(obs, groups, noise), pure.act_with(tensors, obs, groups, noise), strict=True):
        torch.testing.assert_close(two, one)
    _, moved = pure.act_with([2.0 * tensor for tensor in tensors], obs, groups, noise)
    assert not torch.allclose(moved, eager.act(obs, groups, noise)[1])


def test_a_traced_gradient_step_is_an_eager_one(method, monkeypatch):
    monkeypatch.setattr(compiled, "compile_function", trace)
    spec, plan, weights = get_suite(SUITE).env_spec(), RolloutPlan(rows=16, count=3), []
    for traced in (False, True):
        options = {"hidden_sizes": (8,), "minibatch_size": 16, "update_epochs": 1, "compile": traced}
        module = PPOModule(spec, plan, METHODS[method](), **options)
        perturb(module, 0.1)
        module.configure_optimizers()
        before = torch.cat([p.detach().flatten() for p in module.parameters()])
        (rollout,) = collect(module.policy, SUITE, num_envs=4, steps=4)
        module.learn(rollout)
        weights.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
        assert not torch.equal(weights[-1], before)
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["categorical", "gaussian"])
def test_a_resumed_fit_equals_an_uninterrupted_one(method, name, tmp_path):
    suite, options = parts(name)
    data = {"suite": SUITE if name == "categorical" else suite, "rollout_steps": 16, "total_env_steps": 2 * 64}
    options |= {"minibatch_size": 32, "update_epochs": 1}
    whole = fit(data, sharing=METHODS[method](), **options)
    path = tmp_path / "stopped.ckpt"
    first = fit(data, [StopAfter(1, path)], sharing=METHODS[method](), **options)
    torch.manual_seed(77)  # nothing hangs on the global generator
    rest = fit(data, sharing=METHODS[method](), ckpt_path=path, **options)
    assert [r.env_steps for r in first.records + rest.records] == [64, 128]
    state, expected = rest.module.state_dict(), whole.module.state_dict()
    torch.testing.assert_close(dict(state), dict(expected), rtol=0, atol=0, equal_nan=True)
