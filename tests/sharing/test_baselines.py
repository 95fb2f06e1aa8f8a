"""The baselines against the plain networks they stand for."""

import torch
from helpers import drawn, perturb, randn
from torch import nn

from varshare_pl.sharing import Independent, IndependentLinear, LayerSpec, OneHotLinear, SharedLinear, SharedOneHot

M, IN, OUT = 3, 4, 2
TASK = torch.tensor([2, 0, 1, 2, 2, 0])


def test_shared_equals_linear():
    layer, linear = SharedLinear(IN, OUT, M).double(), nn.Linear(IN, OUT).double()
    perturb(layer)
    linear.load_state_dict(layer.state_dict())
    x = randn(6, IN)
    torch.testing.assert_close(layer(x, TASK), linear(x))


def test_onehot_equals_concatenating_a_onehot_vector():
    layer, linear = OneHotLinear(IN, OUT, M).double(), nn.Linear(IN + M, OUT).double()
    perturb(layer)
    linear.load_state_dict(layer.state_dict())
    x = randn(6, IN)
    torch.testing.assert_close(layer(x, TASK), linear(torch.cat([x, nn.functional.one_hot(TASK, M)], 1)))


def test_onehot_gradients_equal_concatenating():
    layer, linear = OneHotLinear(IN, OUT, M).double(), nn.Linear(IN + M, OUT).double()
    perturb(layer)
    linear.load_state_dict(layer.state_dict())
    x, task = randn(4, IN), torch.tensor([2, 0, 2, 2])
    layer(x, task).square().sum().backward()
    linear(torch.cat([x, nn.functional.one_hot(task, M)], 1)).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, linear.weight.grad)
    torch.testing.assert_close(layer.bias.grad, linear.bias.grad)


def test_independent_equals_separate_linears():
    layer = IndependentLinear(IN, OUT, M).double()
    perturb(layer)
    x = randn(6, IN)
    output = layer(x, TASK)
    for i, m in enumerate(TASK.tolist()):
        torch.testing.assert_close(output[i], nn.functional.linear(x[i], layer.weight[m], layer.bias[m]))


def test_independent_tasks_start_apart():
    layer = drawn(IndependentLinear(IN, OUT, M))
    assert not torch.allclose(layer.weight[0], layer.weight[1])


def test_only_the_first_layer_of_shared_onehot_knows_the_task():
    first, second = (drawn(SharedOneHot().make_layer(LayerSpec("l", i, IN, OUT, M))).double() for i in (0, 1))
    x = randn(1, IN).expand(M, IN)
    every_task = torch.arange(M)
    assert not torch.allclose(first(x, every_task)[0], first(x, every_task)[1])
    torch.testing.assert_close(second(x, every_task)[0], second(x, every_task)[1])


def test_independent_has_a_bias_per_task():
    layer = Independent().make_layer(LayerSpec("l", 0, IN, OUT, M))
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {"weight": (M, OUT, IN), "bias": (M, OUT)}
