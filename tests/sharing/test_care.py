"""A mixture of encoders: against a forward with loops, and what the formula implies."""

import dataclasses

import pytest
import torch
from helpers import generator, perturb, randn
from network_checks import (
    IN,
    OUT,
    SPEC,
    TASK,
    M,
    check_activation,
    check_autocast,
    check_learning,
    check_trace,
)
from torch.nn.functional import linear

from varshare_pl.errors import ConfigError
from varshare_pl.sharing.care import Care

BASE = {"num_encoders": 3, "embedding_size": 4, "encoder_size": 7}


def make_network(spec=SPEC, **options):
    network = Care(**(BASE | options)).make_network(spec, generator()).double()
    perturb(network)
    return network


def plain(mlp, x):
    """A multilayer perceptron for one row."""
    *hidden, head = mlp.stack.values()
    for layer in hidden:
        x = torch.tanh(linear(x, layer.weight, layer.bias))
    return linear(x, head.weight, head.bias)


def by_hand(network, x, m):
    """One row through the network, encoder by encoder, with the context beside the mixture."""
    size, context = network.encoder_size, network.task_embedding[m]
    exponents = plain(network.attention, context).exp()
    mixture = torch.zeros(size).double()
    for k, exponent in enumerate(exponents):
        own = slice(k * size, (k + 1) * size)
        hidden = torch.tanh(network.encoder_in[own] @ x + network.encoder_in_bias[own])
        mixture += exponent / exponents.sum() * (network.encoder_out[k] @ hidden + network.encoder_out_bias[k])
    return plain(network.trunk, torch.cat([mixture, context]))


@pytest.mark.parametrize("num_encoders", [1, 2, 5])
@pytest.mark.parametrize("hidden_sizes", [(5,), (6, 5)])
@torch.no_grad()
def test_forward_by_hand(num_encoders, hidden_sizes):
    network = make_network(dataclasses.replace(SPEC, hidden_sizes=hidden_sizes), num_encoders=num_encoders)
    x = randn(6, IN)
    expected = [by_hand(network, row, m) for row, m in zip(x, TASK.tolist(), strict=True)]
    torch.testing.assert_close(network(x, TASK), torch.stack(expected))


def test_shapes_and_start():
    network = Care(**BASE).make_network(SPEC, generator())
    assert {name: tuple(p.shape) for name, p in network.named_parameters()} == {
        "task_embedding": (M, 4),
        "encoder_in": (21, IN),
        "encoder_in_bias": (21,),
        "encoder_out": (3, 7, 7),
        "encoder_out_bias": (3, 7),
        "attention.stack.layer_1.weight": (4, 4),
        "attention.stack.layer_1.bias": (4,),
        "attention.stack.head.weight": (3, 4),
        "attention.stack.head.bias": (3,),
        "trunk.stack.layer_1.weight": (6, 11),
        "trunk.stack.layer_1.bias": (6,),
        "trunk.stack.layer_2.weight": (5, 6),
        "trunk.stack.layer_2.bias": (5,),
        "trunk.stack.head.weight": (OUT, 5),
        "trunk.stack.head.bias": (OUT,),
    }
    for name, p in network.named_parameters():
        if name.endswith("bias"):
            assert not p.any()
        elif name != "task_embedding":
            norms = torch.linalg.svdvals(p.view(3, 7, IN) if name == "encoder_in" else p)
            expected = 1.0 if name == "trunk.stack.head.weight" else 2**0.5
            torch.testing.assert_close(norms, torch.full_like(norms, expected))
    assert not torch.allclose(network.encoder_in[:7], network.encoder_in[7:14])
    assert not torch.allclose(network.encoder_out[0], network.encoder_out[1])


def test_attention_sums_to_one():
    alpha = make_network().attend(torch.tensor([0, 2]))
    assert alpha.shape == (2, 3)
    assert (alpha > 0).all()
    torch.testing.assert_close(alpha.sum(1), torch.ones(2).double())
    assert not torch.allclose(alpha[0], alpha[1])


def test_attention_picks_an_encoder():
    """With all attention on one encoder the others do not matter."""
    network, x = make_network(), randn(6, IN)
    with torch.no_grad():
        network.attention.stack["head"].bias += torch.tensor([0.0, 1000.0, 0.0])
        before = network(x, TASK)
        network.encoder_out[0] += 1.0
        network.encoder_in[14:] += 1.0
        assert torch.equal(network(x, TASK), before)
        network.encoder_out[1] += 1.0
        assert not torch.allclose(network(x, TASK), before)


def test_mixed_equals_per_task():
    network, x = make_network(), randn(6, IN)
    output = network(x, TASK)
    for m in range(M):
        torch.testing.assert_close(output[m == TASK], network(x[m == TASK], TASK[m == TASK]))


def test_relabelling_tasks_permutes_results():
    network, other, x = make_network(), make_network(), randn(6, IN)
    new_name = torch.tensor([1, 2, 0])
    with torch.no_grad():
        other.task_embedding[new_name] = network.task_embedding
    torch.testing.assert_close(other(x, new_name[TASK]), network(x, TASK))
    assert not torch.allclose(network(x, new_name[TASK]), network(x, TASK))


def test_absent_tasks_get_no_gradient():
    network = make_network()
    network(randn(4, IN), torch.tensor([2, 0, 2, 2])).square().sum().backward()
    assert not network.task_embedding.grad[1].any()
    for m in (0, 2):
        assert network.task_embedding.grad[m].all()
    for name, p in network.named_parameters():
        assert p.grad.any(), name


@torch.no_grad()
def test_one_task():
    network, x = make_network(dataclasses.replace(SPEC, num_tasks=1)), randn(3, IN)
    output = network(x, torch.zeros(3, dtype=torch.int64))
    torch.testing.assert_close(output, torch.stack([by_hand(network, row, 0) for row in x]))


@pytest.mark.parametrize("activation", ["tanh", "silu"])
def test_gradients(activation):
    spec = dataclasses.replace(SPEC, activation=activation, hidden_sizes=(3,))
    network = make_network(spec, num_encoders=2, embedding_size=2, encoder_size=3)
    names, parameters = zip(*network.named_parameters(), strict=True)

    def function(x, *values):
        return torch.func.functional_call(network, dict(zip(names, values, strict=True)), (x, TASK))

    values = [p.detach().clone().requires_grad_() for p in parameters]
    assert torch.autograd.gradcheck(function, (randn(6, IN).requires_grad_(), *values))


@pytest.mark.parametrize("options", [{"num_encoders": 2}, {"embedding_size": 5}, {"encoder_size": 5}])
def test_options_change_the_network(options):
    def outputs(**options):
        return Care(**options).make_network(SPEC, generator()).double()(randn(6, IN), TASK)

    assert not torch.allclose(outputs(**BASE), outputs(**(BASE | options)))


def test_activation_is_that_of_the_spec():
    check_activation(make_network)


@pytest.mark.parametrize("option", ["num_encoders", "embedding_size", "encoder_size"])
@pytest.mark.parametrize("value", [0, -1])
def test_bad_options_raise(option, value):
    with pytest.raises(ConfigError, match=f"{option}: {value}"):
        make_network(**{option: value})


def test_under_autocast():
    check_autocast(make_network().float())


def test_traced_with_its_gradient():
    check_trace(make_network())


@pytest.mark.parametrize("suite", ["MirroredCartPole", "CartPole"])
def test_it_learns_from_rollouts(suite):
    check_learning(Care, suite)
