"""One trunk for all tasks with a head for each."""

import pytest
import torch
from helpers import generator, make_policy, perturb, randn
from torch import nn
from torch.func import functional_call

from varshare_pl.sharing import IndependentLinear, NetworkSpec, SharedLinear, TaskMLP, method_names
from varshare_pl.sharing.multi_head import MultiHead

M, IN, OUT = 4, 3, 2
TASK = torch.tensor([2, 0, 3, 1, 2, 2, 0])
ABSENT = torch.tensor([3, 1, 3, 3, 1])


def make_network(tasks=M):
    network = TaskMLP(MultiHead().make_layer, NetworkSpec("actor", IN, (6, 5), OUT, tasks), generator()).double()
    perturb(network)
    return network


def test_name_layers_and_parameters():
    assert method_names()["multi_head"] is MultiHead
    network = make_network()
    kinds = {name: type(layer) for name, layer in network.layers()}
    assert kinds == {"layer_1": SharedLinear, "layer_2": SharedLinear, "head": IndependentLinear}
    assert {name: tuple(p.shape) for name, p in network.named_parameters()} == {
        "stack.layer_1.weight": (6, IN),
        "stack.layer_1.bias": (6,),
        "stack.layer_2.weight": (5, 6),
        "stack.layer_2.bias": (5,),
        "stack.head.weight": (M, OUT, 5),
        "stack.head.bias": (M, OUT),
    }


def test_equals_a_plain_trunk_and_a_linear_per_task():
    network, x = make_network(), randn(len(TASK), IN)
    layers = dict(network.layers())
    h = x
    for name in ("layer_1", "layer_2"):
        h = torch.tanh(nn.functional.linear(h, layers[name].weight, layers[name].bias))
    head = layers["head"]
    expected = torch.stack(
        [nn.functional.linear(h[i], head.weight[m], head.bias[m]) for i, m in enumerate(TASK.tolist())]
    )
    torch.testing.assert_close(network(x, TASK), expected)


@pytest.mark.parametrize("task", [TASK, ABSENT], ids=["all", "absent"])
def test_mixed_equals_per_task(task):
    network, x = make_network(), randn(len(task), IN)
    output = network(x, task)
    for m in task.unique():
        torch.testing.assert_close(output[task == m], network(x[task == m], task[task == m]))


def test_an_absent_task_gets_no_gradient_from_data():
    network = make_network()
    network(randn(len(ABSENT), IN), ABSENT).square().sum().backward()
    for name, p in network.named_parameters():
        if "head" in name:
            assert (p.grad.flatten(1).abs().sum(1) > 0).tolist() == [False, True, False, True], name
        else:
            assert p.grad.any(), name


def test_gradients_by_differences():
    network, x = make_network(), randn(len(ABSENT), IN)
    names, values = zip(*network.named_parameters(), strict=True)
    values = [v.detach().clone().requires_grad_() for v in values]
    assert torch.autograd.gradcheck(
        lambda *v: functional_call(network, dict(zip(names, v, strict=True)), (x, ABSENT)), values
    )


def test_one_task_is_a_shared_net():
    spec = NetworkSpec("actor", IN, (6, 5), OUT, 1)
    x, task = randn(5, IN, dtype=torch.float32), torch.zeros(5, dtype=torch.int64)
    methods = (method_names()[name]() for name in ("multi_head", "shared"))
    alone, shared = (TaskMLP(method.make_layer, spec, generator()) for method in methods)
    torch.testing.assert_close(alone(x, task), shared(x, task))


def test_heads_start_apart_on_the_trunk_of_a_shared_net():
    policy, shared = (make_policy("MirroredCartPole", method_names()[name]()) for name in ("multi_head", "shared"))
    for network in ("actor", "critic"):
        ours, theirs = (getattr(p, network).stack for p in (policy, shared))
        for name in ("layer_1", "layer_2"):
            assert torch.equal(ours[name].weight, theirs[name].weight)
        assert not torch.allclose(ours["head"].weight[0], ours["head"].weight[1])
        torch.testing.assert_close(ours["head"].weight[0].norm(), theirs["head"].weight.norm())


def test_shared_part_is_the_mean_head():
    network, x = make_network(), randn(M, 5, IN)
    tasks = torch.arange(M)
    assert [layer.shared_and_residual() is not None for _, layer in network.layers()] == [False, False, True]
    found = network.compute(network.prepare_shared(tasks), x)
    with torch.no_grad():
        for p in network.stack["head"].parameters():
            p.copy_(p.mean(0, keepdim=True).expand_as(p))
    torch.testing.assert_close(found, network.compute(network.prepare(tasks), x))
