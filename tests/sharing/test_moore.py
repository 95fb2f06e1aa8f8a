"""MOORE: experts with orthogonal representations."""

import pytest
import torch
from helpers import fit, generator, perturb, randn
from torch.fx.experimental.proxy_tensor import make_fx

from varshare_pl.errors import ConfigError
from varshare_pl.sharing import NetworkSpec
from varshare_pl.sharing.moore import EPSILON, MOORE, orthonormal

M, IN, OUT = 3, 4, 2
TASK = torch.tensor([2, 0, 1, 2, 2, 0])
OWN = ("composition", "head_weight", "head_bias")


def make(num_tasks=M, perturbed=True, hidden=(8, 6), **options):
    network = MOORE(**options).make_network(NetworkSpec("actor", IN, hidden, OUT, num_tasks), generator()).double()
    if perturbed:
        perturb(network)
    return network


def by_hand(network, row, m):
    """One row by the paper's formulas."""
    (w1, w2), (b1, b2) = network.weights, network.biases
    basis = []
    for k in range(network.num_experts):
        v = w2[k] @ torch.tanh(w1[k] @ row + b1[k]) + b2[k]
        v = v - sum((v @ q) * q for q in basis)
        basis.append(v / v.norm())
    hidden = torch.tanh(sum(network.composition[m, k] * q for k, q in enumerate(basis)))
    return network.head_weight[m] @ hidden + network.head_bias[m]


def test_equals_the_formulas():
    network, x = make(), randn(6, IN)
    output = network(x, TASK)
    for row, m in enumerate(TASK.tolist()):
        torch.testing.assert_close(output[row], by_hand(network, x[row], m), rtol=1e-6, atol=1e-6)


def test_representations_are_orthonormal():
    network, x = make(hidden=(64, 64)), randn(M, 5, IN)
    found = network.representations(network.prepare(torch.arange(M)), x)
    assert found.shape == (4, M, 5, 64)
    products = torch.einsum("kgrh,lgrh->grkl", found, found)
    torch.testing.assert_close(products, torch.eye(4).double().expand(M, 5, 4, 4), rtol=0, atol=1e-6)


def test_representations_are_orthonormal_in_single_precision_near_zero():
    network = make(hidden=(64, 64), perturbed=False).float()
    found = network.representations(network.prepare(torch.arange(M)), randn(M, 50, IN).float() * 0.05)
    products = torch.einsum("kgrh,lgrh->grkl", found, found)
    torch.testing.assert_close(products, torch.eye(4).expand(M, 50, 4, 4), rtol=0, atol=1e-3)


def test_the_first_vector_keeps_its_direction():
    vectors = randn(3, 7, 5)
    torch.testing.assert_close(orthonormal(vectors)[0], torch.nn.functional.normalize(vectors[0], dim=-1))


def test_dependent_vectors_are_safe():
    vectors = torch.zeros(4, 2, 5, dtype=torch.float64)
    vectors[0, 1], vectors[1, 1], vectors[3, 1] = randn(5), 2 * randn(5), randn(5, seed=1)  # and vectors[2, 1] is 0
    vectors.requires_grad_()
    found = orthonormal(vectors)
    assert not found[:, 0].any()  # nothing to represent
    torch.testing.assert_close(found[:, 1].norm(dim=-1), torch.tensor([1.0, 0.0, 0.0, 1.0]).double(), rtol=0, atol=1e-3)
    found.sum().backward()
    assert vectors.grad.isfinite().all()
    assert vectors.grad.abs().max() <= 10 / EPSILON


def test_mixed_batch_equals_batches_by_task():
    network, x = make(), randn(6, IN)
    output = network(x, TASK)
    for m in range(M):
        torch.testing.assert_close(output[m == TASK], network(x[m == TASK], TASK[m == TASK]))


def test_an_absent_task_gets_no_gradient():
    network = make()
    network(randn(4, IN), torch.tensor([2, 0, 2, 0])).square().sum().backward()
    for name in OWN:
        gradient = getattr(network, name).grad.flatten(1)
        assert gradient[[0, 2]].any(1).all()
        assert not gradient[1].any()
    assert all(p.grad.flatten(1).any(1).all() for p in (*network.weights, *network.biases))


@pytest.mark.parametrize("hidden", [(8, 6), (8,)])
def test_one_task(hidden):
    network, x = make(num_tasks=1, hidden=hidden), randn(5, IN)
    assert network(x, torch.zeros(5, dtype=torch.int64)).shape == (5, OUT)


def test_start():
    network = make(perturbed=False)
    torch.testing.assert_close(network.composition.norm(dim=1), torch.ones(M).double())
    assert not torch.allclose(network.weights[0][0], network.weights[0][1])
    for weight, gain in ((network.weights[0], 2**0.5), (network.weights[1], 2**0.5), (network.head_weight, 1.0)):
        values = torch.linalg.svdvals(weight)
        torch.testing.assert_close(values, torch.full_like(values, gain), rtol=1e-5, atol=0)
    assert not any(bias.any() for bias in (*network.biases, network.head_bias))


def test_more_experts_make_another_network():
    x = randn(6, IN)
    assert make(num_experts=3).weights[0].shape == (3, 8, IN)
    assert not torch.allclose(make(num_experts=3)(x, TASK), make(num_experts=2)(x, TASK))


def test_shared_is_the_mean_of_what_tasks_own():
    network, x = make(), randn(M, 5, IN)
    shared = network.compute(network.prepare_shared(torch.arange(M)), x)
    with torch.no_grad():
        for name in OWN:
            getattr(network, name)[:] = getattr(network, name).mean(0)
    torch.testing.assert_close(network.compute(network.prepare(torch.arange(M)), x), shared)


def test_gradients():
    network = make(hidden=(3, 4), num_experts=3)
    names = [name for name, _ in network.named_parameters()]

    def function(x, *values):
        return torch.func.functional_call(network, dict(zip(names, values, strict=True)), (x, TASK))

    inputs = [randn(6, IN).requires_grad_(), *(p.detach().clone().requires_grad_() for p in network.parameters())]
    assert torch.autograd.gradcheck(function, inputs)


def test_traces_to_the_same_numbers():
    network, x, tasks = make().float(), randn(M, 5, IN).float(), torch.arange(M)

    def gradients(x):
        loss = network.compute(network.prepare(tasks), x).square().sum()
        return torch.autograd.grad(loss, list(network.parameters()))

    for traced, eager in zip(
        make_fx(gradients, tracing_mode="fake", _allow_non_fake_inputs=True)(x)(x), gradients(x), strict=True
    ):
        torch.testing.assert_close(traced, eager, rtol=1e-3, atol=1e-4)


def test_mixed_precision_gives_the_weights_type():
    network, x, tasks = make().float(), randn(M, 5, IN).float(), torch.arange(M)
    expected = network.compute(network.prepare(tasks), x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network.compute(network.prepare(tasks), x)
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, expected, rtol=0.1, atol=0.1)
    output.sum().backward()


@pytest.mark.parametrize("num_experts", [0, -1, 7])
def test_a_bad_number_of_experts_raises(num_experts):
    with pytest.raises(ConfigError, match=f"num_experts: {num_experts}"):
        make(num_experts=num_experts)


def test_an_actor_critic_trains():
    run = fit(sharing=MOORE(), data={"total_env_steps": 128})
    assert len(run.records) == 1
    start = [p.detach().clone() for p in fit(sharing=MOORE(), trainer={"max_steps": 0}).module.parameters()]
    for old, new in zip(start, run.module.parameters(), strict=True):
        assert new.isfinite().all()
        assert not torch.equal(old, new)
