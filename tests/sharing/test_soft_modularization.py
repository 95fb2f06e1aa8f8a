"""Modules and the routes through them: against a forward with loops, and what the formula implies."""

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

from varshare_pl.errors import ConfigError
from varshare_pl.sharing.soft_modularization import SoftModularization, _mixed


def make_network(spec=SPEC, scale=0.3, **options):
    options = {"num_layers": 3, "num_modules": 2, "embedding_size": 7, **options}
    network = SoftModularization(**options).make_network(spec, generator()).double()
    perturb(network, scale)
    return network


def affine(layer, x):
    return [
        sum(w * v for w, v in zip(row, x, strict=True)) + b
        for row, b in zip(layer.weight.tolist(), layer.bias.flatten().tolist(), strict=True)
    ]


def sigma(x):
    return torch.tensor(x, dtype=torch.float64).tanh().tolist()


def softmax(x):
    return torch.tensor(x, dtype=torch.float64).softmax(0).tolist()


def by_hand(network, x, m):
    """One row through the network, module by module."""
    layer_1, head = network.encoder.stack.values()
    f = affine(head, sigma(affine(layer_1, x)))
    u = [a * b for a, b in zip(f, network.task_embedding[m].tolist(), strict=True)]
    logits = [affine(network.down[0], sigma(u))]
    for up, down in zip(network.up, network.down[1:], strict=True):
        logits.append(affine(down, sigma([a * b for a, b in zip(affine(up, logits[-1]), u, strict=True)])))
    n = network.num_modules
    inputs = [sigma(f)] * n
    for index, layer in enumerate(network.layer_modules):
        outputs = [
            sigma((layer.weight[j] @ torch.tensor(inputs[j], dtype=torch.float64) + layer.bias[j, 0]).tolist())
            for j in range(n)
        ]
        last = index + 1 == len(network.layer_modules)
        rows = [logits[index]] if last else [logits[index][i * n : (i + 1) * n] for i in range(n)]
        inputs = [
            [sum(p * outputs[j][k] for j, p in enumerate(softmax(row))) for k in range(len(outputs[0]))] for row in rows
        ]
    return affine(network.head, inputs[0])


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("num_modules", [1, 2, 3])
def test_forward_by_hand(num_layers, num_modules):
    network = make_network(num_layers=num_layers, num_modules=num_modules)
    x = randn(6, IN)
    expected = [by_hand(network, row, m) for row, m in zip(x.tolist(), TASK.tolist(), strict=True)]
    torch.testing.assert_close(network(x, TASK), torch.tensor(expected, dtype=torch.float64))


def test_shapes_and_start():
    network = SoftModularization(num_layers=2, num_modules=3).make_network(SPEC, generator())
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters() if "encoder" not in name}
    assert shapes == {
        "task_embedding": (M, 5),
        "layer_modules.0.weight": (3, 5, 5),
        "layer_modules.0.bias": (3, 1, 5),
        "layer_modules.1.weight": (3, 5, 5),
        "layer_modules.1.bias": (3, 1, 5),
        "down.0.weight": (9, 5),
        "down.0.bias": (9,),
        "down.1.weight": (3, 5),
        "down.1.bias": (3,),
        "up.0.weight": (5, 9),
        "up.0.bias": (5,),
        "head.weight": (OUT, 5),
        "head.bias": (OUT,),
    }
    for name, p in network.named_parameters():
        if name.endswith("bias"):
            assert not p.any()
        elif name != "task_embedding":
            norms = torch.linalg.svdvals(p)
            torch.testing.assert_close(norms, torch.full_like(norms, 1.0 if name == "head.weight" else 2**0.5))
    assert not torch.allclose(network.layer_modules[0].weight[0], network.layer_modules[0].weight[1])


def test_routes_are_probabilities():
    network = make_network()
    routes = network.routes(network.prepare(torch.tensor([0, 2])), randn(2, 5, IN))
    assert [tuple(route.shape) for route in routes] == [(2, 5, 2, 2), (2, 5, 2, 2), (2, 5, 2)]
    for route in routes:
        assert (route > 0).all()
        torch.testing.assert_close(route.sum(-1), torch.ones_like(route.sum(-1)))


def test_routes_hang_on_state_and_task():
    network = make_network()
    for route in network.routes(network.prepare(torch.arange(M)), randn(1, 2, IN).expand(M, 2, IN)):
        assert not torch.allclose(route[0], route[1])
        assert not torch.allclose(route[:, 0], route[:, 1])


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


def test_one_task():
    network, x = make_network(dataclasses.replace(SPEC, num_tasks=1)), randn(3, IN)
    output = network(x, torch.zeros(3, dtype=torch.int64))
    torch.testing.assert_close(
        output, torch.tensor([by_hand(network, row, 0) for row in x.tolist()], dtype=torch.float64)
    )


@pytest.mark.parametrize("activation", ["tanh", "silu"])
def test_gradients(activation):
    network = make_network(dataclasses.replace(SPEC, activation=activation, hidden_sizes=(3,)), embedding_size=3)
    names, parameters = zip(*network.named_parameters(), strict=True)

    def function(x, *values):
        return torch.func.functional_call(network, dict(zip(names, values, strict=True)), (x, TASK))

    values = [p.detach().clone().requires_grad_() for p in parameters]
    assert torch.autograd.gradcheck(function, (randn(6, IN).requires_grad_(), *values))


@pytest.mark.parametrize("options", [{"num_layers": 2}, {"num_modules": 3}, {"embedding_size": 5}])
def test_options_change_the_network(options):
    def outputs(**options):
        return SoftModularization(**options).make_network(SPEC, generator()).double()(randn(6, IN), TASK)

    base = {"num_layers": 3, "num_modules": 2, "embedding_size": 7}
    assert not torch.allclose(outputs(**base), outputs(**(base | options)))


def test_widths_come_from_the_hidden_sizes():
    network = SoftModularization().make_network(dataclasses.replace(SPEC, hidden_sizes=(9, 8, 6)), generator())
    assert [layer.out_features for _, layer in network.encoder.layers()] == [9, 8, 6]
    assert network.task_embedding.shape == (M, 6)
    assert [tuple(layer.weight.shape) for layer in network.layer_modules] == [(2, 6, 6), (2, 6, 6)]


def test_activation_is_that_of_the_spec():
    check_activation(make_network)


@pytest.mark.parametrize("option", ["num_layers", "num_modules", "embedding_size"])
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
    check_learning(SoftModularization, suite)


@pytest.mark.parametrize(("k", "n"), [(1, 1), (1, 2), (2, 2), (1, 4), (3, 3), (1, 5)])
def test_outputs_are_mixed_alike_by_sums_and_by_products(k, n):
    routes, outputs = randn(6, k, n).requires_grad_(), randn(6, n, 5, seed=1).requires_grad_()
    found, expected = _mixed(routes, outputs), torch.einsum("rkn,rnw->rkw", routes, outputs)
    torch.testing.assert_close(found, expected)
    seed = randn(6, k, 5, seed=2)
    torch.testing.assert_close(*(torch.autograd.grad(y, (routes, outputs), seed) for y in (found, expected)))
