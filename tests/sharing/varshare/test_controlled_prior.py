"""The controller that moves VarShare's prior between rollouts, so that the noise stays in proportion to the weights."""

import copy
import math
import warnings

import pytest
import torch
from helpers import collect, fit, perturb
from stopping import StopAfter
from torch.distributions import Normal, kl_divergence

from varshare_pl.envs import get_suite
from varshare_pl.ppo import compiled
from varshare_pl.ppo.module import PPOModule
from varshare_pl.sharing.varshare import VarShareControlledPrior
from varshare_pl.sharing.varshare.controlled_prior import ControlledPriorLinear, NoiseController, noise_ratio
from varshare_pl.types import RolloutPlan

M, IN, OUT = 4, 3, 2


def controlled(sigma):
    layer = ControlledPriorLinear(IN, OUT, M)
    with torch.no_grad():
        layer.theta.fill_(1.0)
        layer.mu.copy_(torch.tensor([0.5, 1.5, -1.0, 3.0]).view(M, 1, 1).expand_as(layer.mu))  # mean 1: θ̄ is 2
        layer.log_var.fill_(2 * math.log(sigma))
    return layer


def test_the_ratio_is_that_of_the_medians():
    one, two = controlled(0.3), ControlledPriorLinear(8, 8, M)
    perturb(two)
    assert noise_ratio([one]).item() == pytest.approx(0.15)
    sigma = torch.cat([layer.sigma().flatten() for layer in (one, two)])
    theta = torch.cat([(layer.theta + layer.mu.mean(0)).abs().flatten() for layer in (one, two)])
    assert noise_ratio([one, two]).item() == pytest.approx(sigma.median().item() / theta.median().item())


@pytest.mark.parametrize(("sigma", "moved"), [(0.8, 1 / 1.1), (0.3, 1.0), (0.02, 1.1)])
def test_the_controller_moves_the_prior_every_20_rollouts(sigma, moved):
    layer, controller = controlled(sigma), NoiseController()
    for rollout in range(45):
        controller.control([("head", layer)], rollout)
        steps = (rollout + 1) // 20
        assert layer.current_prior_std().item() == pytest.approx(layer.prior_std * moved**steps, rel=1e-6)
    assert controller.noise_ratio.item() == pytest.approx(sigma / 2)


def test_the_controller_averages_and_stops_at_its_limits():
    layer, controller = controlled(0.3), NoiseController()
    controller.control([("head", layer)], 0)
    with torch.no_grad():
        layer.log_var.fill_(2 * math.log(4.0))
    controller.control([("head", layer)], 1)
    assert controller.noise_ratio.item() == pytest.approx(0.95 * 0.15 + 0.05 * 2.0)
    for rollout in range(19, 20 * 40, 20):
        controller.control([("head", layer)], rollout)
    assert layer.current_prior_std().item() == pytest.approx(layer.prior_std / 10)


def test_the_kl_is_to_the_prior_of_the_moment():
    layer, controller = controlled(0.8).double(), NoiseController().double()
    controller.control([("head", layer)], 19)
    prior = Normal(torch.zeros(()).double(), layer.prior_std / 1.1)
    expected = kl_divergence(Normal(layer.mu, layer.sigma()), prior).sum((1, 2))
    torch.testing.assert_close(layer.kl(), expected)


def test_the_controller_is_logged():
    run = fit(sharing=VarShareControlledPrior())
    for record in run.records:
        found = {(d.metric, d.network) for d in record.details if d.metric.startswith("sharing/noise_ratio")}
        assert found == {("sharing/noise_ratio", "actor"), ("sharing/noise_ratio", "critic")}
    stds = [d.value for d in run.records[0].details if d.metric == "sharing/prior_std"]
    assert stds == pytest.approx([layer.prior_std for *_, layer in run.module.policy.layers()])
    assert not [d for d in fit().records[0].details if d.metric in ("sharing/prior_std", "sharing/noise_ratio")]


def test_a_resumed_run_moves_the_prior_when_the_whole_one_does(tmp_path):
    data, path = {"rollout_steps": 8, "total_env_steps": 23 * 32}, tmp_path / "stopped.ckpt"

    def run(*callbacks, **more):
        sharing = VarShareControlledPrior(prior_scale=3.0, absorption=0.2)
        return fit(data, callbacks, sharing=sharing, minibatch_size=32, update_epochs=1, **more)

    whole = run()
    run(StopAfter(18, path))
    rest = run(ckpt_path=path)
    assert len(rest.records) == 5
    state, expected = dict(rest.module.state_dict()), dict(whole.module.state_dict())
    torch.testing.assert_close(state, expected, rtol=0, atol=0, equal_nan=True)
    assert rest.module.policy.actor.controller.factor.item() == pytest.approx(1 / 1.1)
    details = [d.value for d in rest.records[-1].details if d.metric == "sharing/prior_std"]
    assert details == pytest.approx([layer.prior_std / 1.1 for *_, layer in rest.module.policy.layers()])


def trace(function, arguments, name):
    """In place of the compiler: the graph that it would get, with constants of its own, run by torch."""
    from torch.fx.experimental.proxy_tensor import make_fx

    with warnings.catch_warnings(action="ignore"):
        return copy.deepcopy(make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)(*arguments))


def test_a_compiled_step_sees_the_prior_of_the_moment(monkeypatch):
    """A buffer would be a constant of the machine code if it were no input."""
    monkeypatch.setattr(compiled, "compile_function", trace)
    spec, plan, weights = get_suite("MirroredCartPole").env_spec(), RolloutPlan(rows=16, count=3), []
    for traced in (False, True):
        method = VarShareControlledPrior(absorption=0.5, task_embedding=2)
        options = {"hidden_sizes": (8, 8), "minibatch_size": 16, "update_epochs": 1, "compile": traced}
        module = PPOModule(spec, plan, method, kl_weight=50.0, **options)
        perturb(module, 0.1)
        module.configure_optimizers()
        for rollout in range(2):
            batch = collect(module.policy, "MirroredCartPole", 4, 4, rollouts=2)[rollout]
            module.learn(batch)
            for *_, layer in module.policy.layers():
                layer.log_prior_std.sub_(1.0)
        weights.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-5)
