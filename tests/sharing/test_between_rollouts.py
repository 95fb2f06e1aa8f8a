"""What VarShare does between rollouts: absorption, and the controller of the noise; and its task embedding."""

import copy
import math

import pytest
import torch
from helpers import collect, fit, generator, make_spec, perturb, randn
from stopping import StopAfter
from torch import nn
from torch.distributions import Normal, kl_divergence

from varshare_pl.envs import get_suite
from varshare_pl.networks.groups import TaskGroups
from varshare_pl.ppo import compiled
from varshare_pl.ppo.module import PPOModule
from varshare_pl.sharing import LocalNoise, NetworkSpec, VarShare
from varshare_pl.sharing.varshare.noise_controller import ControlledPriorLinear, NoiseController, noise_ratio

M, IN, OUT = 4, 3, 2
SPEC = NetworkSpec("actor", IN, (8, 8), OUT, M)
TASK = torch.tensor([2, 0, 3, 1, 2, 2, 0])


def make(**options):
    torso = VarShare(**options).make_network(SPEC, generator())
    perturb(torso)
    return torso


@pytest.mark.parametrize("share", [0.1, 1.0])
@pytest.mark.parametrize("deterministic", [False, True])
def test_absorption_changes_no_tasks_function(share, deterministic):
    torso = make(absorption=share, deterministic=deterministic, task_bias=True)
    x, noise = randn(len(TASK), IN, dtype=torch.float32), torso.draw_weight_noise(generator(1))
    before, kl, common = torso(x, TASK, noise), torso.kl(), torso.stack["head"].mu.mean(0)
    shared_and_residual = [layer.shared_and_residual() for _, layer in torso.layers()]
    mu = torso.stack["head"].mu.clone()
    torso.after_update(0)
    torch.testing.assert_close(torso(x, TASK, noise), before, rtol=0, atol=1e-6)
    torch.testing.assert_close(torso.stack["head"].mu, mu - share * common)  # of all tasks alike
    for (_, layer), (theta, mu) in zip(torso.layers(), shared_and_residual, strict=True):
        torch.testing.assert_close(layer.shared_and_residual(), (theta, mu), rtol=0, atol=1e-6)
    assert torso.kl().sum() < kl.sum()


def test_absorption_leaves_gradients_of_the_data_as_they_are():
    """So Adam's moments, which average them, need no change."""
    torso = make(absorption=0.5).double()
    x = randn(len(TASK), IN)

    def gradients():
        torso.zero_grad()
        torso(x, TASK).square().sum().backward()
        return [p.grad.clone() for name, p in torso.named_parameters() if "log_var" not in name]

    before = gradients()
    torso.after_update(0)
    torch.testing.assert_close(gradients(), before)


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
        controller([layer], rollout)
        steps = (rollout + 1) // 20
        assert layer.current_prior_std().item() == pytest.approx(layer.prior_std * moved**steps, rel=1e-6)
    assert controller.noise_ratio.item() == pytest.approx(sigma / 2)


def test_the_controller_averages_and_stops_at_its_limits():
    layer, controller = controlled(0.3), NoiseController()
    controller([layer], 0)
    with torch.no_grad():
        layer.log_var.fill_(2 * math.log(4.0))
    controller([layer], 1)
    assert controller.noise_ratio.item() == pytest.approx(0.95 * 0.15 + 0.05 * 2.0)
    for rollout in range(19, 20 * 40, 20):
        controller([layer], rollout)
    assert layer.current_prior_std().item() == pytest.approx(layer.prior_std / 10)


def test_the_kl_is_to_the_prior_of_the_moment():
    layer, controller = controlled(0.8).double(), NoiseController().double()
    controller([layer], 19)
    prior = Normal(torch.zeros(()).double(), layer.prior_std / 1.1)
    expected = kl_divergence(Normal(layer.mu, layer.sigma()), prior).sum((1, 2))
    torch.testing.assert_close(layer.kl(), expected)


def test_the_controller_is_logged():
    run = fit(sharing=VarShare(noise_controller=True))
    for record in run.records:
        found = {(d.metric, d.network) for d in record.details if d.metric.startswith("sharing/noise_ratio")}
        assert found == {("sharing/noise_ratio", "actor"), ("sharing/noise_ratio", "critic")}
    stds = [d.value for d in run.records[0].details if d.metric == "sharing/prior_std"]
    assert stds == pytest.approx([layer.prior_std for *_, layer in run.module.policy.layers()])
    assert not [d for d in fit().records[0].details if d.metric in ("sharing/prior_std", "sharing/noise_ratio")]


def test_a_resumed_run_moves_the_prior_when_the_whole_one_does(tmp_path):
    data, path = {"rollout_steps": 8, "total_env_steps": 23 * 32}, tmp_path / "stopped.ckpt"

    def run(*callbacks, **more):
        sharing = VarShare(noise_controller=True, prior_scale=3.0, absorption=0.2)
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

    return copy.deepcopy(make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)(*arguments))


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_step_sees_the_prior_of_the_moment(monkeypatch):
    """A buffer would be a constant of the machine code if it were no input."""
    monkeypatch.setattr(compiled, "compile_function", trace)
    weights = []
    for traced in (False, True):
        spec = make_spec(get_suite("MirroredCartPole"), 16)
        method = VarShare(noise_controller=True, absorption=0.5, task_embedding=2)
        module = PPOModule(spec, method, hidden_sizes=(8, 8), minibatch_size=16, update_epochs=1, kl_weight=50.0)
        perturb(module, 0.1)
        optimizer = module.configure_optimizers()
        eager = module.stepping.eager(optimizer)
        steps = module.stepping.compiled(optimizer) if traced else eager
        for rollout in range(2):
            batch = collect(module.policy, "MirroredCartPole", 4, 4, rollouts=2)[rollout]
            module.learner(batch, steps)
            for *_, layer in module.policy.layers():
                layer.log_prior_std.sub_(1.0)
        weights.append([p.detach().clone() for p in module.parameters()])
    for one, two in zip(*weights, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)


def concatenated(torso, x, task, noise=None):
    """The network written out row by row."""
    rows = []
    for row, m in zip(x, task.tolist(), strict=True):
        h = torch.cat([row, torso.embedding[m]])
        for index, (name, layer) in enumerate(torso.layers()):
            weight = layer.theta + layer.mu[m]
            if noise is not None:
                weight = weight + layer.sigma()[m] * noise[index][m]
            h = nn.functional.linear(h, weight, layer.bias)
            h = h if name == "head" else h.tanh()
        rows.append(h)
    return torch.stack(rows)


@pytest.mark.parametrize("kind", ["mean", "weights"])
def test_the_embedding_joins_the_observation(kind):
    torso = make(task_embedding=5).double()
    x, noise = randn(len(TASK), IN), torso.draw_weight_noise(generator(1)) if kind == "weights" else None
    outputs = torso(x, TASK, noise), concatenated(torso, x, TASK, noise)
    torch.testing.assert_close(*outputs)
    parameters = [p for p in torso.parameters() if kind == "weights" or p.dim() != 3]
    gradients = [
        torch.autograd.grad(y.square().sum(), parameters, allow_unused=True, materialize_grads=True) for y in outputs
    ]
    torch.testing.assert_close(*gradients)
    assert gradients[0][-1].abs().sum() > 0


def test_local_noise_reaches_the_embeddings_columns():
    torso, rows = make(task_embedding=5).double(), 20_000
    groups = TaskGroups.from_rows(torch.arange(M), M)
    x = randn(1, 1, IN).expand(M, rows, -1)
    noise = [LocalNoise(randn(M, rows, layer.out_features, seed=k)) for k, (_, layer) in enumerate(torso.layers())]
    first = torso.prepare(groups.group_task, noise)
    joined = torch.cat([x[:, 0], torso.embedding], 1)
    layer = torso.stack["layer_1"]
    expected = torch.einsum("mi,moi->mo", joined.square(), layer.log_var.exp()).sqrt()
    output = layer.compute(first.layers[0], torch.cat([x, first.embedding.expand(-1, rows, -1)], 2))
    torch.testing.assert_close(output.std(1), expected, rtol=0.03, atol=0)


@pytest.mark.parametrize("actor_noise", ["rollout", "stored", "mean"])
@pytest.mark.parametrize("critic_noise", ["local", "weights", "flipout"])
def test_the_embedding_goes_with_every_kind_of_noise(actor_noise, critic_noise):
    run = fit(
        {"total_env_steps": 128}, sharing=VarShare(task_embedding=3), actor_noise=actor_noise, critic_noise=critic_noise
    )
    assert run.records[0].metrics["diagnostics/first_ratio_deviation"] < 1e-5
    assert run.module.policy.actor.embedding.shape == (2, 3)


def test_sharing_alone_has_the_mean_embedding():
    torso = make(task_embedding=5).double()
    x, tasks = randn(1, 6, IN).expand(M, -1, -1), torch.arange(M)
    shared = torso.compute(torso.prepare_shared(tasks), x)
    torch.testing.assert_close(shared[0], shared[3])
    with torch.no_grad():
        torso.embedding.copy_(torso.embedding.mean(0).expand(M, -1))
    torch.testing.assert_close(torso.compute(torso.prepare_shared(tasks), x), shared)
