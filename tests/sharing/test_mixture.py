"""A mixture of experts without orthogonality."""

import pytest
import torch
from helpers import fit, generator, perturb, randn

from varshare_pl.errors import ConfigError
from varshare_pl.sharing import NetworkSpec
from varshare_pl.sharing.mixture import Mixture
from varshare_pl.sharing.moore import MOORE

M, IN, OUT = 3, 4, 2
TASK = torch.tensor([2, 0, 1, 2, 2, 0])


def make(method=Mixture, num_tasks=M, perturbed=True, hidden=(8, 6), **options):
    network = method(**options).make_network(NetworkSpec("actor", IN, hidden, OUT, num_tasks), generator()).double()
    if perturbed:
        perturb(network)
    return network


def test_equals_the_formula():
    network, x = make(), randn(6, IN)
    (w1, w2), (b1, b2) = network.weights, network.biases
    output = network(x, TASK)
    for row, m in enumerate(TASK.tolist()):
        experts = [w2[k] @ torch.tanh(w1[k] @ x[row] + b1[k]) + b2[k] for k in range(4)]
        hidden = torch.tanh(sum(network.composition[m, k] * v for k, v in enumerate(experts)))
        torch.testing.assert_close(output[row], network.head_weight[m] @ hidden + network.head_bias[m])


def test_differs_from_moore_by_orthogonality_alone():
    mixture, moore = make(), make(MOORE)
    for (name, one), (other, two) in zip(mixture.named_parameters(), moore.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(one, two)
    x = randn(6, IN)
    assert not torch.allclose(mixture(x, TASK), moore(x, TASK))


def test_mixed_batch_equals_batches_by_task():
    network, x = make(), randn(6, IN)
    output = network(x, TASK)
    for m in range(M):
        torch.testing.assert_close(output[m == TASK], network(x[m == TASK], TASK[m == TASK]))


def test_an_absent_task_gets_no_gradient():
    network = make()
    network(randn(4, IN), torch.tensor([2, 0, 2, 0])).square().sum().backward()
    for parameter in (network.composition, network.head_weight, network.head_bias):
        assert parameter.grad.flatten(1)[[0, 2]].any(1).all()
        assert not parameter.grad[1].any()


def test_one_task():
    network, x = make(num_tasks=1), randn(5, IN)
    assert network(x, torch.zeros(5, dtype=torch.int64)).shape == (5, OUT)


def test_one_expert_starts_as_a_trunk_with_heads():
    network, x = make(perturbed=False, num_experts=1), randn(6, IN)
    trunk = torch.tanh(torch.tanh(x @ network.weights[0][0].mT) @ network.weights[1][0].mT)
    expected = torch.stack([network.head_weight[m] @ row for row, m in zip(trunk, TASK.tolist(), strict=True)])
    torch.testing.assert_close(network(x, TASK), expected)


def test_experts_may_be_more_than_units():
    network = make(num_experts=9)
    assert network(randn(6, IN), TASK).shape == (6, OUT)


def test_more_experts_make_another_network():
    x = randn(6, IN)
    assert not torch.allclose(make(num_experts=3)(x, TASK), make(num_experts=2)(x, TASK))


def test_gradients():
    network = make(hidden=(3, 4), num_experts=3)
    names = [name for name, _ in network.named_parameters()]

    def function(x, *values):
        return torch.func.functional_call(network, dict(zip(names, values, strict=True)), (x, TASK))

    inputs = [randn(6, IN).requires_grad_(), *(p.detach().clone().requires_grad_() for p in network.parameters())]
    assert torch.autograd.gradcheck(function, inputs)


@pytest.mark.parametrize("num_experts", [0, -1])
def test_a_bad_number_of_experts_raises(num_experts):
    with pytest.raises(ConfigError, match=f"num_experts: {num_experts}"):
        make(num_experts=num_experts)


def test_an_actor_critic_trains():
    run = fit(sharing=Mixture(), data={"total_env_steps": 128})
    assert len(run.records) == 1
    start = [p.detach().clone() for p in fit(sharing=Mixture(), trainer={"max_steps": 0}).module.parameters()]
    for old, new in zip(start, run.module.parameters(), strict=True):
        assert new.isfinite().all()
        assert not torch.equal(old, new)
