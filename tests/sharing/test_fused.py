"""The multilayer perceptron as one node of autograd, against the layers one by one."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from helpers import METHODS, generator, make_policy, perturb, randn
from varshare_pl.sharing.fused import NARROW, mlp

from varshare_pl.networks.activations import ACTIVATIONS
from varshare_pl.networks.layer import LinearWeights
from varshare_pl.networks.network import NetworkSpec, TaskMLP
from varshare_pl.random import array_stream
from varshare_pl.sharing import Shared, SharedLinear

G, R = 3, 7
SIZES = {  # input, hidden layers, output
    "narrow": (4, 8, 5, 3),
    "wide": (5, 20, 33, 18),
    "edge": (NARROW, NARROW, NARROW + 1, NARROW),
    "value": (3, 40, 1),
    "widths of 1": (1, 1, 1),
    "no hidden layer": (4, 3),
}
# A layer's tensors: weight of each group or of all, bias of each group or of all, local noise.
KINDS = {
    "shared": (False, False, False),
    "shared weight, own bias": (False, True, False),
    "own weight, shared bias": (True, False, False),
    "own": (True, True, False),
    "shared, local": (False, False, True),
    "own weight, shared bias, local": (True, False, True),
    "own, local": (True, True, True),
}
INPUTS = ["contiguous", "interleaved", "sliced", "expanded"]


def make_network(sizes, activation="tanh"):
    first, *hidden, last = sizes
    spec = NetworkSpec("actor", first, tuple(hidden), last, G, activation, 1.0, 1.0)
    return TaskMLP(Shared().make_layer, spec, generator())


def make_prepared(sizes, kind, dtype=torch.float64, groups=G, rows=R, seed=0):
    own_weight, own_bias, local = KINDS[kind]
    prepared = []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        shapes = [(groups, fan_out, fan_in) if own_weight else (fan_out, fan_in)]
        shapes += [(groups, 1, fan_out) if own_bias else (fan_out,)]
        shapes += [(groups, fan_out, fan_in), (groups, rows, fan_out)] if local else []
        tensors = [randn(*shape, seed=seed + 10 * i + k).to(dtype) for k, shape in enumerate(shapes)]
        tensors[0] /= fan_in**0.5
        if local:
            tensors[2] = 0.1 * tensors[2].square()
        prepared.append(LinearWeights(*(t.requires_grad_(k < 3) for k, t in enumerate(tensors))))
    return prepared


def make_x(form, size, dtype=torch.float64, rows=R):
    if form == "interleaved":  # as TaskGroups gives it
        x = randn(rows, G, size, seed=99).transpose(0, 1)
    elif form == "sliced":
        x = randn(G, 2 * rows, size + 3, seed=99)[:, ::2, 1 : size + 1]
    elif form == "expanded":
        x = randn(1, rows, size, seed=99).expand(G, -1, -1)
    else:
        x = randn(G, rows, size, seed=99)
    assert x.is_contiguous() == (form == "contiguous")
    x = x.to(dtype)
    if form != "expanded":
        x[1, 2] = 0.0  # a row of zeros has no local noise
    return x


def value_and_gradients(compute, prepared, x, seed):
    """Output, and the gradients of all that has one, None where there is none."""
    inputs = [x, *(t for weights in prepared for t in weights if t is not None)]
    for tensor in inputs:
        tensor.grad = None
    output = compute(prepared, x)
    output.backward(seed)
    return output.detach(), [t.grad for t in inputs]


def assert_routes_agree(torso, prepared, x, tolerance):
    seed = randn(*x.shape[:2], prepared[-1].weight.shape[-2], seed=77).to(x.dtype)
    expected = value_and_gradients(torso.compute_by_layers, prepared, x, seed)
    found = value_and_gradients(torso.compute, prepared, x, seed)
    torch.testing.assert_close(found[0], expected[0], rtol=tolerance, atol=tolerance)
    for gradient, other in zip(found[1], expected[1], strict=True):
        assert (gradient is None) == (other is None)
        if other is not None:
            bound = tolerance * max(1.0, other.abs().max().item())
            torch.testing.assert_close(gradient, other, rtol=tolerance, atol=bound)


@pytest.mark.parametrize("form", INPUTS)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_layers_one_by_one(kind, sizes, form):
    for activation in ACTIVATIONS:
        torso = make_network(SIZES[sizes], activation)
        for trained_x in (False, True):
            for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-5)):
                prepared = make_prepared(SIZES[sizes], kind, dtype)
                x = make_x(form, SIZES[sizes][0], dtype)
                leaf = x.requires_grad_(trained_x)
                assert_routes_agree(torso, prepared, leaf, tolerance)
                assert (leaf.grad is not None) == trained_x


@pytest.mark.parametrize(("groups", "rows"), [(1, 1), (1, 6), (3, 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_few_groups_and_rows(kind, groups, rows):
    sizes = (4, 20, 3)
    x = randn(groups, rows, 4, seed=99).requires_grad_()
    assert_routes_agree(make_network(sizes), make_prepared(sizes, kind, groups=groups, rows=rows), x, 1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_by_differences(kind, activation):
    for sizes in ((3, 4, 2), (2, NARROW + 2, 1)):
        prepared = make_prepared(sizes, kind, rows=2)
        x = randn(G, 2, sizes[0], seed=99).requires_grad_()
        inputs = [x, *(t for weights in prepared for t in weights if t is not None)]

        def forward(x, *flat, sizes=sizes):
            width = len(flat) // (len(sizes) - 1)
            layers = [LinearWeights(*flat[i : i + width]) for i in range(0, len(flat), width)]
            return mlp(x, layers, ACTIVATIONS[activation])

        assert torch.autograd.gradcheck(forward, inputs)


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_parameters_of_a_policy_get_the_same_gradient(method, noisy, local):
    policy = make_policy("ComplexCartPole", METHODS[method](), hidden_sizes=(20, 8)).double()
    perturb(policy)
    torso, tasks, x = policy.critic, torch.tensor([0, 2, 4]), randn(3, 6, 4)
    noise = None
    if noisy:
        noise = torso.draw_local_noise(3, 6, array_stream(1, "a")) if local else torso.draw_weight_noise(generator())
    gradients = []
    for compute in (torso.compute, torso.compute_by_layers):
        policy.zero_grad()
        compute(torso.prepare(tasks, noise), x).square().sum().backward()  # an output of width 1
        gradients.append({name: p.grad for name, p in torso.named_parameters() if p.grad is not None})
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-11, atol=1e-11)
    assert any(g.any() for g in gradients[0].values())


def test_a_tensor_that_is_not_trained_gets_no_gradient():
    sizes = (4, 6, 3)
    torso, x = make_network(sizes), make_x("contiguous", 4)
    for frozen in range(3):
        prepared = make_prepared(sizes, "own, local")
        prepared[0][frozen].requires_grad_(False)
        assert_routes_agree(torso, prepared, x, 1e-12)
        assert prepared[0][frozen].grad is None


def test_rows_of_zeros_have_finite_gradients_in_all_layers():
    """With biases of 0 a row of zeros stays one; relu makes more of them."""
    sizes = (4, 20, 6, 3)
    for activation in ACTIVATIONS:
        for dtype in (torch.float32, torch.float64):
            prepared = make_prepared(sizes, "own, local", dtype)
            for weights in prepared:
                weights.bias.detach().zero_()
            x = make_x("contiguous", 4, dtype).requires_grad_()
            value_and_gradients(make_network(sizes, activation).compute, prepared, x, torch.ones(G, R, 3, dtype=dtype))
            assert all(t.grad.isfinite().all() for t in (x, *(t for w in prepared for t in w[:3])))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_backward_can_be_repeated_and_changes_nothing(activation):
    """Nothing that is kept for the backward pass, nor an argument, is overwritten."""
    sizes = (4, 20, 6, 1)
    prepared, x = make_prepared(sizes, "own, local"), make_x("contiguous", 4).requires_grad_()
    inputs = [x, *(t for weights in prepared for t in weights[:3])]
    before = [t.detach().clone() for t in (*inputs, *(weights.zeta for weights in prepared))]
    output = mlp(x, prepared, ACTIVATIONS[activation])
    seed = randn(*output.shape)
    value, kept = output.detach().clone(), seed.clone()
    first, second = (torch.autograd.grad(output, inputs, seed, retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(output, value)
    assert torch.equal(seed, kept)
    after = (*inputs, *(weights.zeta for weights in prepared))
    assert all(torch.equal(a.detach(), b) for a, b in zip(after, before, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_without_gradients_the_bits_are_the_same(kind, dtype):
    """Acting takes this way, the update the other: PPO's ratio starts at 1."""
    prepared, x = make_prepared((4, 20, 3), kind, dtype), make_x("interleaved", 4, dtype)
    for activation in ACTIVATIONS.values():
        with_gradients = mlp(x, prepared, activation)
        assert with_gradients.requires_grad
        for context in (torch.no_grad, torch.inference_mode):
            with context():
                without = mlp(x, prepared, activation)
            assert not without.requires_grad
            assert torch.equal(without, with_gradients)


def test_a_second_derivative_is_refused_rather_than_wrong():
    prepared, x = make_prepared((4, 6, 3), "own"), make_x("contiguous", 4).requires_grad_()
    output = mlp(x, prepared, ACTIVATIONS["tanh"])
    (gradient,) = torch.autograd.grad(output.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_a_weight_changed_before_backward_is_told():
    prepared, x = make_prepared((4, 6, 3), "own"), make_x("contiguous", 4)
    output = mlp(x, prepared, ACTIVATIONS["tanh"])
    with torch.no_grad():
        prepared[1].weight.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_not_a_number_stays_one():
    for activation in ACTIVATIONS:
        prepared, x = make_prepared((4, 20, 3), "own"), make_x("contiguous", 4)
        x[0, 3, 1] = torch.nan
        output, (_, weight, *_) = value_and_gradients(
            make_network((4, 20, 3), activation).compute, prepared, x, torch.ones(G, R, 3).double()
        )
        assert output.isnan().any(-1).nonzero().tolist() == [[0, 3]]
        assert weight.isnan().any((1, 2)).tolist() == [True, False, False]


class Doubled(SharedLinear):
    def compute(self, prepared, x):
        return 2 * super().compute(prepared, x)


def test_layers_with_a_product_of_their_own_are_asked_for_it():
    method = SimpleNamespace(make_layer=lambda spec: Doubled(spec.in_features, spec.out_features, spec.num_tasks))
    torso = TaskMLP(method.make_layer, NetworkSpec("actor", 4, (5,), 3, G, "tanh", 1.0, 1.0), generator())
    x, prepared = randn(G, R, 4, dtype=torch.float32), torso.prepare(torch.arange(G))
    by_hand = 2 * torch.tanh(2 * x @ prepared[0].weight.mT) @ prepared[1].weight.mT  # biases start at 0
    torch.testing.assert_close(torso.compute(prepared, x), by_hand)


def test_autocast_goes_layer_by_layer():
    torso, x = make_network((4, 6, 3)), randn(G, R, 4, dtype=torch.float32)
    prepared = torso.prepare(torch.arange(G))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = torso.compute(prepared, x)
        assert torch.equal(output, torso.compute_by_layers(prepared, x))
    assert output.dtype == torch.float32
    whole = torso.compute(prepared, x)
    assert 0 < (output - whole).abs().max() < 0.05  # of few digits, so it was not the fused way
