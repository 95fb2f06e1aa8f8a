"""What must hold for a whole network of a method, whatever the method."""

import dataclasses

import torch
from helpers import fit, randn, weights_of
from torch.fx.experimental.proxy_tensor import make_fx

from varshare_pl.networks.network import NetworkSpec

M, IN, OUT = 3, 4, 2
TASK = torch.tensor([2, 0, 1, 2, 2, 0])
SPEC = NetworkSpec("actor", IN, (6, 5), OUT, M)


def check_activation(make_network):
    """Every activation gives another network."""
    x, names = randn(6, IN), ("tanh", "relu", "elu", "silu")
    outputs = [make_network(dataclasses.replace(SPEC, activation=activation))(x, TASK) for activation in names]
    for a in range(4):
        for b in range(a):
            assert not torch.allclose(outputs[a], outputs[b])


def check_autocast(network):
    """In fewer digits, but near, of the weights' type, and with gradients everywhere."""
    x = randn(6, IN, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        output = network(x, TASK)
    assert output.dtype == torch.float32
    assert not torch.equal(output, network(x, TASK))
    torch.testing.assert_close(output, network(x, TASK), rtol=0.1, atol=0.1)
    output.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def check_trace(network):
    """Output and gradient of a trace are those of the network."""
    group_task = torch.tensor([0, 2])

    def function(x):
        parameters = list(network.parameters())
        output = network.compute(network.prepare(group_task), x)
        return [output, *torch.autograd.grad(output.square().sum(), parameters)]

    x, other = randn(2, 3, IN), randn(2, 3, IN, seed=1)
    graph = make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)(x)
    for found, expected in zip(graph(other), function(other), strict=True):
        torch.testing.assert_close(found, expected)


def check_learning(method, suite):
    """Every parameter moves in training, and stays finite."""
    run = fit({"suite": suite}, sharing=method())
    start = weights_of(fit({"suite": suite, "total_env_steps": 128}, sharing=method()).module)
    assert len(run.records) == 3
    for name, p in run.module.named_parameters():
        assert p.isfinite().all()
        assert not torch.equal(p, start[name]), name
