"""The multilayer perceptron of task-aware layers, whatever the layers."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from helpers import METHODS, generator, local_noises, perturb, randn, weight_noises
from torch import nn

from varshare_pl.errors import ConfigError
from varshare_pl.networks.activations import ACTIVATIONS
from varshare_pl.networks.network import tensors_of, with_tensors
from varshare_pl.sharing import LinearWeights, LocalNoise, NetworkSpec, Shared, SharedLinear, TaskMLP, VarShare

M, IN, OUT, R = 3, 4, 2, 5
TASK = torch.tensor([2, 0, 1, 2, 2, 0])
TASKS = torch.arange(M)


def make(method=VarShare, hidden_sizes=(8, 6), activation="tanh", **gains):
    spec = NetworkSpec("actor", IN, hidden_sizes, OUT, M, activation, **gains)
    return TaskMLP(method().make_layer, spec, generator()).double()


def make_perturbed(method=VarShare, **options):
    network = make(method, **options)
    perturb(network)
    return network


@pytest.mark.parametrize("hidden_sizes", [(), (8,), (8, 6)])
@pytest.mark.parametrize("activation", ["tanh", "relu", "elu", "silu"])
def test_of_shared_layers_it_is_a_plain_network(activation, hidden_sizes):
    network = make_perturbed(Shared, activation=activation, hidden_sizes=hidden_sizes)
    function = {"tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU, "silu": nn.SiLU}[activation]
    plain = []
    for _, layer in network.layers():
        linear = nn.Linear(layer.in_features, layer.out_features).double()
        linear.load_state_dict(layer.state_dict())
        plain += [linear, function()]
    x = randn(6, IN)
    torch.testing.assert_close(network(x, TASK), nn.Sequential(*plain[:-1])(x))


@pytest.mark.parametrize("method", METHODS)
def test_mixed_equals_per_task(method):
    network, x = make_perturbed(METHODS[method]), randn(6, IN)
    noise = weight_noises(network)
    output = network(x, TASK, noise)
    for m in range(M):
        torch.testing.assert_close(output[m == TASK], network(x[m == TASK], TASK[m == TASK], noise))


def test_each_layer_takes_its_own_noise():
    network, x = make_perturbed(), randn(6, IN)
    noise = weight_noises(network)
    partly = [[None if i == j else eps for j, eps in enumerate(noise)] for i in range(3)]
    outputs = [network(x, TASK, some) for some in (None, noise, *partly)]
    for a in range(5):
        for b in range(a):
            assert not torch.allclose(outputs[a], outputs[b])


def test_local_noise_goes_through_all_layers():
    network, x = make_perturbed(), randn(M, R, IN)
    noise = local_noises(network, M, R)
    assert all(isinstance(eps, LocalNoise) for eps in noise)
    expected = x
    for i, (_, layer) in enumerate(network.layers()):
        expected = layer.prepare(TASKS, noise[i]).apply(expected if i == 0 else torch.tanh(expected))
    output = network.compute(network.prepare(TASKS, noise), x)
    torch.testing.assert_close(output, expected)
    assert not torch.allclose(output, network.compute(network.prepare(TASKS), x))


def test_local_noise_can_be_exchanged():
    network, x = make_perturbed(), randn(M, R, IN)
    first, second = (local_noises(network, M, R, seed) for seed in (1, 2))
    exchanged = network.with_local_noise(network.prepare(TASKS, first), second)
    expected = network.compute(network.prepare(TASKS, second), x)
    torch.testing.assert_close(network.compute(exchanged, x), expected)
    assert not torch.allclose(network.compute(network.prepare(TASKS, first), x), expected)


def test_what_follows_from_the_layers():
    mixed = make(partial(VarShare, layers=["layer_1", "head"]))
    layers = dict(mixed.layers())
    assert list(layers) == ["layer_1", "layer_2", "head"]
    own = [layers["layer_1"], layers["head"]]
    assert mixed.has_noise
    assert mixed.num_variational == sum(layer.theta.numel() for layer in own)
    torch.testing.assert_close(mixed.kl(), own[0].kl() + own[1].kl())
    assert mixed.log_var_parameters() == [layer.log_var for layer in own]
    shared = make(Shared)
    assert not shared.has_noise
    assert shared.num_variational == 0
    assert shared.kl().tolist() == [0.0] * M
    assert shared.log_var_parameters() == []


def test_gains_scale_their_layers():
    for (name, layer), gain in zip(make(Shared, hidden_gain=3.0, head_gain=0.5).layers(), (3, 3, 0.5), strict=True):
        norms = torch.linalg.svdvals(layer.weight)
        torch.testing.assert_close(norms, torch.full_like(norms, gain), rtol=1e-5, atol=0, msg=name)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_of_zeros_have_finite_gradients_in_all_layers(activation, dtype):
    """With biases of 0 a row of zeros stays one, without variance under local noise; relu makes more of them."""
    network = make(activation=activation).to(dtype)
    x = randn(M, R, IN).to(dtype)
    x[1, 2] = 0.0
    noise = local_noises(network, M, R)
    output = network.compute(network.prepare(TASKS, noise), x.requires_grad_())
    if activation != "relu":
        torch.testing.assert_close(output[1, 2], torch.zeros(OUT, dtype=dtype), rtol=0, atol=1e-15)
    output.sum().backward()
    assert all(tensor.grad.isfinite().all() for tensor in (x, *network.parameters()))


@pytest.mark.parametrize("kind", ["mean", "weights", "local"])
def test_without_gradients_the_bits_are_the_same(kind):
    """Acting goes without, the update with them: PPO's ratio starts at 1."""
    network, x = make_perturbed().float(), randn(R, M, IN, dtype=torch.float32).transpose(0, 1)
    noise = {"mean": lambda: None, "weights": lambda: weight_noises(network)}.get(
        kind, lambda: local_noises(network, M, R)
    )()
    with_gradients = network.compute(network.prepare(TASKS, noise), x)
    assert with_gradients.requires_grad
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            without = network.compute(network.prepare(TASKS, noise), x)
        assert not without.requires_grad
        assert torch.equal(without, with_gradients)


class Doubled(LinearWeights):
    def apply(self, x):
        return 2 * super().apply(x)


class DoubledLinear(SharedLinear):
    def prepare(self, group_task, noise=None):
        return Doubled(*super().prepare(group_task, noise))


def test_layers_with_a_product_of_their_own_are_asked_for_it():
    method = SimpleNamespace(make_layer=lambda spec: DoubledLinear(spec.in_features, spec.out_features, spec.num_tasks))
    network, x = make(lambda: method, hidden_sizes=(8,)), randn(M, R, IN)
    prepared = network.prepare(TASKS)
    by_hand = 2 * torch.tanh(2 * x @ prepared[0].weight.mT) @ prepared[1].weight.mT  # biases start at 0
    torch.testing.assert_close(network.compute(prepared, x), by_hand)


def test_tensors_are_taken_out_of_any_nesting_and_put_back():
    one, two, three = (torch.full((2,), float(i)) for i in range(3))
    prepared = [LinearWeights(one, two), (None, [three])]
    assert [tensor is found for tensor, found in zip((one, two, three), tensors_of(prepared), strict=True)] == [
        True
    ] * 3
    moved = with_tensors(prepared, iter([three, one, two]))
    assert isinstance(moved[0], LinearWeights)
    assert moved[0].weight is three
    assert moved[0].variance is None
    assert moved[1][0] is None
    assert moved[1][1][0] is two


class BareLinear(SharedLinear):
    def prepare(self, group_task, noise=None):
        return self.weight


class TwiceLinear(SharedLinear):
    def prepare(self, group_task, noise=None):
        return LinearWeights(torch.cat([self.weight] * 2), torch.cat([self.bias] * 2))


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (BareLinear, r"layer_1, a BareLinear: prepare gave a Parameter; LinearWeights, or .* is allowed"),
        (TwiceLinear, r"layer_1, a TwiceLinear: two rows .* of shape \(1, 2, 16\); \(1, 2, 8\) is allowed"),
    ],
)
def test_a_layer_without_usable_weights_is_refused(layer, told):
    spec = NetworkSpec("actor", 4, (8,), 2, 3)
    with pytest.raises(ConfigError, match=r"^model\.sharing: " + told):
        TaskMLP(lambda of: layer(of.in_features, of.out_features, of.num_tasks), spec, generator())
