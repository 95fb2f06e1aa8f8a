"""PaCo: every task's parameters as a weighted sum of parameter sets."""

import pytest
import torch
from helpers import fit, generator, perturb, randn
from torch.fx.experimental.proxy_tensor import make_fx

from varshare_pl.errors import ConfigError
from varshare_pl.sharing import NetworkSpec
from varshare_pl.sharing.paco import PaCo

M, IN, OUT = 3, 4, 2
TASK = torch.tensor([2, 0, 1, 2, 2, 0])


def make(num_tasks=M, perturbed=True, hidden=(8, 6), head_gain=0.5, **options):
    spec = NetworkSpec("actor", IN, hidden, OUT, num_tasks, head_gain=head_gain)
    network = PaCo(**options).make_network(spec, generator()).double()
    if perturbed:
        perturb(network)
    return network


def test_parameters_are_the_weighted_sum_of_the_sets():
    network = make(num_sets=2)
    x = randn(6, IN)
    output = network(x, TASK)
    for row, m in enumerate(TASK.tolist()):
        first, second = network.composition[m]
        flat = first * network.sets[0] + second * network.sets[1]
        w1, b1, w2, b2, w3, b3 = flat.split([32, 8, 48, 6, 12, 2])
        hidden = torch.tanh(w1.view(8, 4) @ x[row] + b1)
        hidden = torch.tanh(w2.view(6, 8) @ hidden + b2)
        torch.testing.assert_close(output[row], w3.view(2, 6) @ hidden + b3)


def test_mixed_batch_equals_batches_by_task():
    network, x = make(), randn(6, IN)
    output = network(x, TASK)
    for m in range(M):
        torch.testing.assert_close(output[m == TASK], network(x[m == TASK], TASK[m == TASK]))


def test_an_absent_task_gets_no_gradient():
    network = make()
    network(randn(4, IN), torch.tensor([2, 0, 2, 0])).square().sum().backward()
    assert network.composition.grad[[0, 2]].ne(0).all()
    assert not network.composition.grad[1].any()
    assert network.sets.grad.any(1).all()


def test_one_task():
    network, x = make(num_tasks=1), randn(5, IN)
    assert network(x, torch.zeros(5, dtype=torch.int64)).shape == (5, OUT)


def test_weights_start_at_the_usual_scale():
    network = make(perturbed=False, hidden=(64, 64), num_tasks=40)
    torch.testing.assert_close(network.composition.norm(dim=1), torch.ones(40).double())
    first, second, head = network.prepare(torch.arange(40))
    for layer, gain, rank in ((first, 2**0.5, IN), (second, 2**0.5, 64), (head, 0.5, OUT)):
        assert layer.weight.square().sum((1, 2)).mean().sqrt().item() == pytest.approx(gain * rank**0.5, rel=0.2)
        assert not layer.bias.any()


def test_one_set_starts_as_one_network():
    network, x = make(perturbed=False, num_sets=1), randn(1, IN).expand(M, IN)
    output = network(x, torch.arange(M))
    torch.testing.assert_close(output, output[:1].expand(M, OUT))


def test_more_sets_make_another_network():
    x = randn(6, IN)
    assert make(num_sets=3, perturbed=False).sets.shape == (3, make().sets.shape[1])
    assert not torch.allclose(make(num_sets=3)(x, TASK), make(num_sets=2)(x, TASK))


def test_shared_is_the_mean_composition():
    network, x = make(), randn(M, 5, IN)
    shared = network.compute(network.prepare_shared(torch.arange(M)), x)
    with torch.no_grad():
        network.composition[:] = network.composition.mean(0)
    torch.testing.assert_close(network.compute(network.prepare(torch.arange(M)), x), shared)


def test_gradients():
    network, names = make(hidden=(3, 3)), ("sets", "composition")

    def function(x, *values):
        return torch.func.functional_call(network, dict(zip(names, values, strict=True)), (x, TASK))

    inputs = [randn(6, IN).requires_grad_(), *(p.detach().clone().requires_grad_() for p in network.parameters())]
    assert [name for name, _ in network.named_parameters()] == list(names)
    assert torch.autograd.gradcheck(function, inputs)


def test_traces_to_the_same_numbers():
    network, x, tasks = make().float(), randn(M, 5, IN).float(), torch.arange(M)

    def gradients(x):
        loss = network.compute(network.prepare(tasks), x).square().sum()
        return torch.autograd.grad(loss, list(network.parameters()))

    for traced, eager in zip(
        make_fx(gradients, tracing_mode="fake", _allow_non_fake_inputs=True)(x)(x), gradients(x), strict=True
    ):
        torch.testing.assert_close(traced, eager, rtol=1e-4, atol=1e-5)


def test_mixed_precision_gives_the_weights_type():
    network, x, tasks = make().float(), randn(M, 5, IN).float(), torch.arange(M)
    expected = network.compute(network.prepare(tasks), x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        prepared = network.prepare(tasks)
        output = network.compute(prepared, x)
    assert all(layer.weight.dtype == torch.float32 for layer in prepared)
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, expected, rtol=0.05, atol=0.05)
    output.sum().backward()


@pytest.mark.parametrize("num_sets", [0, -1])
def test_a_bad_number_of_sets_raises(num_sets):
    with pytest.raises(ConfigError, match=f"num_sets: {num_sets}"):
        make(num_sets=num_sets)


def test_an_actor_critic_trains():
    before = [p.detach().clone() for p in fit(sharing=PaCo(), trainer={"max_steps": 0}).module.parameters()]
    run = fit(sharing=PaCo(), data={"total_env_steps": 128})
    assert len(run.records) == 1
    for old, new in zip(before, run.module.parameters(), strict=True):
        assert new.isfinite().all()
        assert not torch.equal(old, new)
