"""One network whose hidden units each task scales and shifts."""

import pytest
import torch
from helpers import drawn, generator, make_policy, perturb, randn
from torch import nn
from torch.func import functional_call

from varshare_pl.sharing import NetworkSpec, SharedLinear, TaskMLP, method_names
from varshare_pl.sharing.film import FiLM, FiLMLinear

M, IN, OUT = 4, 3, 5
TASK = torch.tensor([2, 0, 3, 1, 2, 2, 0])
ABSENT = torch.tensor([3, 1, 3, 3, 1])


def make(tasks=M):
    layer = drawn(FiLMLinear(IN, OUT, tasks)).double()
    perturb(layer)
    return layer


def test_name_layers_and_parameters():
    assert method_names()["film"] is FiLM
    network = TaskMLP(FiLM().make_layer, NetworkSpec("actor", IN, (6, 5), 2, M), generator())
    kinds = {name: type(layer) for name, layer in network.layers()}
    assert kinds == {"layer_1": FiLMLinear, "layer_2": FiLMLinear, "head": SharedLinear}
    shapes = {name: tuple(p.shape) for name, p in make().named_parameters()}
    assert shapes == {"weight": (OUT, IN), "bias": (OUT,), "gamma": (M, OUT), "beta": (M, OUT)}


@pytest.mark.parametrize("task", [TASK, ABSENT], ids=["all", "absent"])
def test_equals_the_formula(task):
    layer, x = make(), randn(len(task), IN)
    pre = nn.functional.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x, task), (1 + layer.gamma[task]) * pre + layer.beta[task])


def test_all_tasks_start_as_one_shared_net():
    x, task = randn(5, 4, dtype=torch.float32), torch.arange(5)
    film, shared = (make_policy("ComplexCartPole", method_names()[name]()) for name in ("film", "shared"))
    for network in ("actor", "critic"):
        torch.testing.assert_close(getattr(film, network)(x, task), getattr(shared, network)(x, task))
        same = getattr(film, network)(x[:1].expand(5, -1), task)
        torch.testing.assert_close(same, same[:1].expand_as(same))


def test_the_first_gradient_tells_tasks_apart():
    policy = make_policy("ComplexCartPole", FiLM())
    policy.actor(randn(5, 4, dtype=torch.float32), torch.arange(5)).square().sum().backward()
    for name in ("layer_1", "layer_2"):
        for p in (policy.actor.stack[name].gamma, policy.actor.stack[name].beta):
            assert p.grad.any(1).all()
            assert not torch.allclose(p.grad[0], p.grad[1], rtol=1e-3, atol=0.0)


@pytest.mark.parametrize("task", [TASK, ABSENT], ids=["all", "absent"])
def test_mixed_equals_per_task(task):
    layer, x = make(), randn(len(task), IN)
    output = layer(x, task)
    for m in task.unique():
        torch.testing.assert_close(output[task == m], layer(x[task == m], task[task == m]))


def test_an_absent_task_gets_no_gradient_from_data():
    layer = make()
    layer(randn(len(ABSENT), IN), ABSENT).square().sum().backward()
    for p in (layer.gamma, layer.beta):
        assert (p.grad.abs().sum(1) > 0).tolist() == [False, True, False, True]


def test_gradients_by_differences():
    network = TaskMLP(FiLM().make_layer, NetworkSpec("actor", IN, (4, 4), 2, M), generator()).double()
    x = randn(len(ABSENT), IN)
    perturb(network)
    names, values = zip(*network.named_parameters(), strict=True)
    values = [v.detach().clone().requires_grad_() for v in values]
    assert torch.autograd.gradcheck(
        lambda *v: functional_call(network, dict(zip(names, v, strict=True)), (x, ABSENT)), values
    )


def test_one_task():
    layer, x = make(tasks=1), randn(5, IN)
    pre = nn.functional.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x, torch.zeros(5, dtype=torch.int64)), (1 + layer.gamma) * pre + layer.beta)


def test_prepared_weights_have_one_matrix_a_group():
    for tasks in ([0, 1, 2, 3], [1, 3]):
        weight, bias, *noise = make().prepare(torch.tensor(tasks))
        assert (weight.shape, bias.shape) == ((len(tasks), OUT, IN), (len(tasks), 1, OUT))
        assert noise == [None, None]


def test_gauge_and_shared_part():
    layer, x = make(), randn(M, 6, IN)
    tasks = torch.arange(M)
    theta, mu = layer.shared_and_residual()
    torch.testing.assert_close(mu.mean(0), torch.zeros_like(theta))
    torch.testing.assert_close(theta + mu, layer.prepare(tasks).weight)
    shared = layer.prepare_shared(tasks)
    torch.testing.assert_close(shared.weight, theta)
    found = shared.apply(x)
    with torch.no_grad():
        for p in (layer.gamma, layer.beta):
            p.copy_(p.mean(0).expand_as(p))
    torch.testing.assert_close(found, layer.prepare(tasks).apply(x))


def test_start():
    layer = drawn(FiLMLinear(IN, OUT, M).double(), gain=2.0)
    torch.testing.assert_close(layer.weight.mT @ layer.weight, 4.0 * torch.eye(IN, dtype=torch.float64))
    assert not any(p.any() for p in (layer.bias, layer.gamma, layer.beta))
