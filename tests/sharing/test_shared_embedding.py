"""One network that reads a learned embedding of the task."""

import pytest
import torch
from helpers import drawn, generator, make_policy, perturb, randn
from torch import nn
from torch.func import functional_call

from varshare_pl.errors import ConfigError
from varshare_pl.sharing import LayerSpec, NetworkSpec, SharedLinear, TaskMLP, method_names
from varshare_pl.sharing.shared_embedding import EmbeddingLinear, SharedEmbedding

M, IN, OUT, E = 4, 3, 5, 2
TASK = torch.tensor([2, 0, 3, 1, 2, 2, 0])
ABSENT = torch.tensor([3, 1, 3, 3, 1])


def make(tasks=M, **options):
    layer = drawn(EmbeddingLinear(IN, OUT, tasks, **{"embedding_size": E, **options})).double()
    perturb(layer)
    return layer


def test_name_layers_and_parameters():
    assert method_names()["shared_embedding"] is SharedEmbedding
    layers = [SharedEmbedding().make_layer(LayerSpec("l", i, IN, OUT, M)) for i in range(3)]
    assert [type(layer) for layer in layers] == [EmbeddingLinear, SharedLinear, SharedLinear]
    shapes = {name: tuple(p.shape) for name, p in layers[0].named_parameters()}
    assert shapes == {"weight": (OUT, IN + 8), "bias": (OUT,), "embedding": (M, 8)}


@pytest.mark.parametrize("task", [TASK, ABSENT], ids=["all", "absent"])
def test_equals_concatenating_the_embedding(task):
    layer, linear, table = make(), nn.Linear(IN + E, OUT).double(), nn.Embedding(M, E).double()
    linear.load_state_dict({"weight": layer.weight, "bias": layer.bias})
    table.load_state_dict({"weight": layer.embedding})
    x = randn(len(task), IN)
    found, expected = layer(x, task), linear(torch.cat([x, table(task)], 1))
    torch.testing.assert_close(found, expected)
    for output in (found, expected):
        output.square().sum().backward()
    torch.testing.assert_close(
        [p.grad for p in (layer.weight, layer.bias, layer.embedding)],
        [p.grad for p in (linear.weight, linear.bias, table.weight)],
    )


@pytest.mark.parametrize("task", [TASK, ABSENT], ids=["all", "absent"])
def test_mixed_equals_per_task(task):
    layer, x = make(), randn(len(task), IN)
    output = layer(x, task)
    for m in task.unique():
        torch.testing.assert_close(output[task == m], layer(x[task == m], task[task == m]))


def test_an_absent_task_gets_no_gradient_from_data():
    layer = make()
    layer(randn(len(ABSENT), IN), ABSENT).square().sum().backward()
    assert (layer.embedding.grad.abs().sum(1) > 0).tolist() == [False, True, False, True]


def test_gradients_by_differences():
    spec = NetworkSpec("actor", IN, (4, 4), 2, M)
    network, x = TaskMLP(SharedEmbedding(E).make_layer, spec, generator()).double(), randn(len(ABSENT), IN)
    perturb(network)
    names, values = zip(*network.named_parameters(), strict=True)
    values = [v.detach().clone().requires_grad_() for v in values]
    assert torch.autograd.gradcheck(
        lambda *v: functional_call(network, dict(zip(names, v, strict=True)), (x, ABSENT)), values
    )


def test_one_task():
    layer, x = make(tasks=1), randn(5, IN)
    expected = nn.functional.linear(torch.cat([x, layer.embedding.expand(5, -1)], 1), layer.weight, layer.bias)
    torch.testing.assert_close(layer(x, torch.zeros(5, dtype=torch.int64)), expected)


def test_start():
    layer = drawn(EmbeddingLinear(IN, 200, 50, embedding_size=100, embedding_scale=0.5), gain=2.0)
    torch.testing.assert_close(layer.weight.mT @ layer.weight, 4.0 * torch.eye(IN + 100), rtol=1e-4, atol=1e-4)
    assert not layer.bias.any()
    assert layer.embedding.std().item() == pytest.approx(0.5, rel=0.05)
    assert layer.embedding.mean().item() == pytest.approx(0.0, abs=0.05)


def test_actor_and_critic_have_embeddings_of_their_own():
    policy = make_policy("ComplexCartPole", SharedEmbedding(E))
    embeddings = [(name, p) for name, p in policy.named_parameters() if name.endswith("embedding")]
    assert [name for name, _ in embeddings] == ["actor.stack.layer_1.embedding", "critic.stack.layer_1.embedding"]
    assert all(p.shape == (5, E) for _, p in embeddings)
    assert not torch.allclose(embeddings[0][1], embeddings[1][1])


def test_options_change_something():
    x, task = randn(5, 4, dtype=torch.float32), torch.arange(5)
    base = make_policy("ComplexCartPole", SharedEmbedding()).actor(x, task)
    for options in ({"embedding_size": 3}, {"embedding_scale": 0.1}):
        assert not torch.allclose(make_policy("ComplexCartPole", SharedEmbedding(**options)).actor(x, task), base)


def test_the_shared_part_reads_the_mean_embedding():
    layer, x = make(), randn(M, 6, IN)
    tasks = torch.arange(M)
    found = layer.prepare_shared(tasks).apply(x)
    with torch.no_grad():
        layer.embedding.copy_(layer.embedding.mean(0).expand(M, -1))
    torch.testing.assert_close(found, layer.prepare(tasks).apply(x))
    assert layer.shared_and_residual() is None


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("embedding_size", 0),
        ("embedding_size", -3),
        ("embedding_scale", 0.0),
        ("embedding_scale", -1.0),
        ("embedding_scale", float("nan")),
        ("embedding_scale", float("inf")),
    ],
)
def test_bad_options_raise(option, value):
    with pytest.raises(ConfigError, match=f"^{option}: {value} is not allowed; a positive"):
        make_policy("MirroredCartPole", SharedEmbedding(**{option: value}))
