"""VarShare's network: absorption between rollouts, and the task embedding."""

import pytest
import torch
from helpers import fit, generator, local_noises, perturb, randn, weight_noises
from torch import nn

from varshare_pl.sharing import LocalNoise, NetworkSpec, VarShare
from varshare_pl.sharing.varshare import VarShareDeterministic

M, IN, OUT = 4, 3, 2
SPEC = NetworkSpec("actor", IN, (8, 8), OUT, M)
TASK = torch.tensor([2, 0, 3, 1, 2, 2, 0])


def make(method=VarShare, **options):
    network = method(**options).make_network(SPEC, generator())
    perturb(network)
    return network


@pytest.mark.parametrize("share", [0.1, 1.0])
@pytest.mark.parametrize("method", [VarShare, VarShareDeterministic])
def test_absorption_changes_no_tasks_function(share, method):
    network = make(method, absorption=share, task_bias=True)
    x, noise = randn(len(TASK), IN, dtype=torch.float32), weight_noises(network)
    before, kl, common = network(x, TASK, noise), network.kl(), network.stack["head"].mu.mean(0)
    shared_and_residual = [layer.shared_and_residual() for _, layer in network.layers()]
    mu = network.stack["head"].mu.clone()
    network.after_update(0)
    torch.testing.assert_close(network(x, TASK, noise), before, rtol=0, atol=1e-6)
    torch.testing.assert_close(network.stack["head"].mu, mu - share * common)  # of all tasks alike
    for (_, layer), (theta, mu) in zip(network.layers(), shared_and_residual, strict=True):
        torch.testing.assert_close(layer.shared_and_residual(), (theta, mu), rtol=0, atol=1e-6)
    assert network.kl().sum() < kl.sum()


def test_absorption_leaves_gradients_of_the_data_as_they_are():
    """So Adam's moments, which average them, need no change."""
    network = make(absorption=0.5).double()
    x = randn(len(TASK), IN)

    def gradients():
        network.zero_grad()
        network(x, TASK).square().sum().backward()
        return [p.grad.clone() for name, p in network.named_parameters() if "log_var" not in name]

    before = gradients()
    network.after_update(0)
    torch.testing.assert_close(gradients(), before)


def concatenated(network, x, task, noise=None):
    """The network written out row by row."""
    rows = []
    for row, m in zip(x, task.tolist(), strict=True):
        h = torch.cat([row, network.embedding[m]])
        for index, (name, layer) in enumerate(network.layers()):
            weight = layer.theta + layer.mu[m]
            if noise is not None:
                weight = weight + layer.sigma()[m] * noise[index][m]
            h = nn.functional.linear(h, weight, layer.bias)
            h = h if name == "head" else h.tanh()
        rows.append(h)
    return torch.stack(rows)


@pytest.mark.parametrize("kind", ["mean", "weights"])
def test_the_embedding_joins_the_observation(kind):
    network = make(task_embedding=5).double()
    x, noise = randn(len(TASK), IN), weight_noises(network) if kind == "weights" else None
    outputs = network(x, TASK, noise), concatenated(network, x, TASK, noise)
    torch.testing.assert_close(*outputs)
    parameters = [p for p in network.parameters() if kind == "weights" or p.dim() != 3]
    gradients = [
        torch.autograd.grad(y.square().sum(), parameters, allow_unused=True, materialize_grads=True) for y in outputs
    ]
    torch.testing.assert_close(*gradients)
    assert gradients[0][-1].abs().sum() > 0


def test_local_noise_reaches_the_embeddings_columns():
    network, rows = make(task_embedding=5).double(), 20_000
    x = randn(1, 1, IN).expand(M, rows, -1)
    noise = [LocalNoise(randn(M, rows, layer.out_features, seed=k)) for k, (_, layer) in enumerate(network.layers())]
    first = network.prepare(torch.arange(M), noise)
    joined = torch.cat([x[:, 0], network.embedding], 1)
    layer = network.stack["layer_1"]
    expected = torch.einsum("mi,moi->mo", joined.square(), layer.log_var.exp()).sqrt()
    output = first.layers[0].apply(torch.cat([x, first.embedding.expand(-1, rows, -1)], 2))
    torch.testing.assert_close(output.std(1), expected, rtol=0.03, atol=0)


@pytest.mark.parametrize("actor_noise", ["rollout", "stored", "mean"])
@pytest.mark.parametrize("critic_noise", ["local", "weights"])
def test_the_embedding_goes_with_every_kind_of_noise(actor_noise, critic_noise):
    run = fit(
        {"total_env_steps": 128}, sharing=VarShare(task_embedding=3), actor_noise=actor_noise, critic_noise=critic_noise
    )
    assert run.records[0].metrics["diagnostics/first_ratio_deviation"] < 1e-5
    assert run.module.policy.actor.embedding.shape == (2, 3)


def test_sharing_alone_has_the_mean_embedding():
    network = make(task_embedding=5).double()
    x, tasks = randn(1, 6, IN).expand(M, -1, -1), torch.arange(M)
    shared = network.compute(network.prepare_shared(tasks), x)
    torch.testing.assert_close(shared[0], shared[3])
    with torch.no_grad():
        network.embedding.copy_(network.embedding.mean(0).expand(M, -1))
        for _, layer in network.layers():
            layer.mu.copy_(layer.mu.mean(0).expand_as(layer.mu))
    torch.testing.assert_close(network.compute(network.prepare(tasks), x), shared)


def test_local_noise_can_be_exchanged_behind_an_embedding():
    network, x, tasks = make(task_embedding=5), randn(M, 3, IN, dtype=torch.float32), torch.arange(M)
    first, second = (local_noises(network, M, 3, seed) for seed in (1, 2))
    exchanged = network.with_local_noise(network.prepare(tasks, first), second)
    outputs = [network.compute(network.prepare(tasks, noise), x) for noise in (first, second)]
    torch.testing.assert_close(network.compute(exchanged, x), outputs[1])
    assert not torch.allclose(*outputs)
