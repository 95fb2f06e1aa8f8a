"""Properties that every task-aware layer has, whatever its method."""

import pytest
import torch
from helpers import METHODS, drawn, generator, perturb, randn

from varshare_pl.networks.groups import TaskGroups
from varshare_pl.networks.noise import local_noise, weight_noise
from varshare_pl.sharing import (
    IndependentLinear,
    LayerSpec,
    LinearWeights,
    LocalNoise,
    OneHotLinear,
    PenalisedLayer,
    SharedLinear,
    VarShareLinear,
    method_names,
)

LAYERS = [VarShareLinear, SharedLinear, IndependentLinear, OneHotLinear]
M, IN, OUT = 4, 3, 5
MIXES = {
    "mixed": [2, 0, 3, 1, 0, 2, 1, 3],
    "ragged": [1, 3, 1, 1, 0, 1, 2, 1],
    "absent": [3, 1, 3, 3, 1],
    "one task": [2, 2, 2],
    "single rows": [3, 0],
    "one row": [1],
}


def make(cls, tasks=M, dtype=torch.float64):
    layer = drawn(cls(IN, OUT, tasks)).to(dtype)
    perturb(layer)
    return layer


def noises(layer, rows):
    """The three kinds of noise for (rows,) rows; deterministic layers ignore them."""
    return {
        "mean": None,
        "weights": weight_noise(layer, generator(1)),
        "local": LocalNoise(randn(rows, OUT, seed=2)),
    }


def take(noise, index):
    return LocalNoise(noise.zeta[index]) if isinstance(noise, LocalNoise) else noise


@pytest.fixture(params=LAYERS, ids=lambda cls: cls.__name__)
def layer(request):
    return make(request.param)


@pytest.fixture(params=MIXES, ids=lambda name: name.replace(" ", "-"))
def task(request):
    return torch.tensor(MIXES[request.param])


@pytest.mark.parametrize("kind", ["mean", "weights", "local"])
def test_mixed_equals_per_task(layer, task, kind):
    x, noise = randn(len(task), IN), noises(layer, len(task))[kind]
    output = layer(x, task, noise)
    assert output.shape == (len(task), OUT)
    for m in task.unique():
        rows = (task == m).nonzero().squeeze(1)
        torch.testing.assert_close(output[rows], layer(x[rows], task[rows], take(noise, rows)))
        for row in rows:
            one = slice(row, row + 1)
            torch.testing.assert_close(output[one], layer(x[one], task[one], take(noise, one)))


@pytest.mark.parametrize("kind", ["mean", "weights", "local"])
def test_permuting_rows_permutes_outputs(layer, task, kind):
    x, noise = randn(len(task), IN), noises(layer, len(task))[kind]
    order = torch.randperm(len(task), generator=generator(3))
    torch.testing.assert_close(layer(x[order], task[order], take(noise, order)), layer(x, task, noise)[order])


@pytest.mark.parametrize("kind", ["mean", "weights", "local"])
def test_relabelling_tasks_changes_no_output(layer, task, kind):
    """Rename task m to new_name[m] in the batch and in the parameters: nothing else moves."""
    x, noise = randn(len(task), IN), noises(layer, len(task))[kind]
    before = layer(x, task, noise)
    new_name = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        for name in ("mu", "log_var", "weight", "bias"):
            parameter = getattr(layer, name, None)
            if isinstance(layer, OneHotLinear) and name == "weight":
                parameter[:, IN + new_name] = parameter[:, IN:].clone()
            elif parameter is not None and len(parameter) == M:
                parameter[new_name] = parameter.clone()
    if isinstance(noise, torch.Tensor):
        noise = torch.empty_like(noise).index_copy_(0, new_name, noise)
    torch.testing.assert_close(layer(x, new_name[task], noise), before)


def test_absent_tasks_get_no_gradient_from_data():
    for cls in (VarShareLinear, IndependentLinear):
        layer = make(cls)
        layer(randn(4, IN), torch.tensor([1, 3, 3, 1]), weight_noise(layer, generator())).square().sum().backward()
        for name, parameter in layer.named_parameters():
            if len(parameter) != M:
                continue
            used = parameter.grad.flatten(1).abs().sum(1) > 0
            assert used.tolist() == [False, True, False, True], (cls.__name__, name)


def test_prepare_and_compute_equal_forward(layer):
    """Group by hand, all tasks and a subset of them."""
    for tasks in ([0, 1, 2, 3], [1, 3], [2]):
        group_task = torch.tensor(tasks)
        x = randn(len(tasks), 6, IN)
        noise = weight_noise(layer, generator(1))
        stacked = layer.prepare(group_task, noise).apply(x)
        rows = layer(x.flatten(0, 1), group_task.repeat_interleave(6), noise)
        assert stacked.shape == (len(tasks), 6, OUT)
        torch.testing.assert_close(stacked.flatten(0, 1), rows)


def test_local_noise_of_prepare_equals_that_of_forward(layer):
    x, group_task = randn(2, 6, IN), torch.tensor([1, 3])
    zeta = randn(2, 6, OUT, seed=5)
    stacked = layer.prepare(group_task, LocalNoise(zeta)).apply(x)
    rows = layer(x.flatten(0, 1), group_task.repeat_interleave(6), LocalNoise(zeta.flatten(0, 1)))
    torch.testing.assert_close(stacked.flatten(0, 1), rows)


def test_padding_changes_nothing(layer):
    """A ragged batch is padded inside; its gradient equals that of the rows one by one."""
    task, x = torch.tensor(MIXES["ragged"]), randn(8, IN)
    layer(x, task).square().sum().backward()
    padded = [p.grad.clone() for p in layer.parameters() if p.grad is not None]
    layer.zero_grad()
    for row in range(8):
        layer(x[row : row + 1], task[row : row + 1]).square().sum().backward()
    alone = [p.grad for p in layer.parameters() if p.grad is not None]
    torch.testing.assert_close(padded, alone)


@pytest.mark.parametrize("cls", LAYERS)
def test_one_task(cls):
    layer = make(cls, tasks=1)
    x, task = randn(3, IN), torch.zeros(3, dtype=torch.int64)
    weight = layer.prepare(task[:1]).weight.reshape(OUT, IN)
    bias = layer.prepare(task[:1]).bias.reshape(OUT)
    torch.testing.assert_close(layer(x, task), x @ weight.mT + bias)


@pytest.mark.parametrize("kind", ["mean", "weights", "local"])
def test_bf16_autocast_runs(layer, kind):
    layer.float()
    noise = noises(layer, 8)[kind]
    noise = LocalNoise(noise.zeta.float()) if isinstance(noise, LocalNoise) else noise
    if isinstance(noise, torch.Tensor):
        noise = noise.float()
    x, task = randn(8, IN, dtype=torch.float32), torch.tensor(MIXES["mixed"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(x, task, noise)
        output.float().sum().backward()
    torch.testing.assert_close(output.float(), layer(x, task, noise), rtol=0.05, atol=0.05)
    assert all(p.grad.isfinite().all() for p in layer.parameters() if p.grad is not None)


@pytest.mark.parametrize("cls", [VarShareLinear, IndependentLinear])
def test_prepare_shared_equals_zeroing_the_residuals_by_hand(cls):
    layer = make(cls)
    x, task = randn(8, IN), torch.tensor(MIXES["mixed"])
    groups = TaskGroups.from_rows(task, M)
    shared = groups.ungroup(layer.prepare_shared(groups.group_task).apply(groups.group(x)))
    with torch.no_grad():
        if isinstance(layer, VarShareLinear):
            layer.theta += layer.mu.mean(0)
            layer.mu.zero_()
        else:
            for parameter in (layer.weight, layer.bias):
                parameter.copy_(parameter.mean(0, keepdim=True).expand_as(parameter))
    torch.testing.assert_close(shared, layer(x, task))


def test_residuals_average_to_zero_and_restore_the_weights():
    for cls in (VarShareLinear, IndependentLinear):
        layer = make(cls)
        theta, mu = layer.shared_and_residual()
        torch.testing.assert_close(mu.mean(0), torch.zeros_like(theta))
        torch.testing.assert_close(theta + mu, layer.prepare(torch.arange(M)).weight)


def test_layers_without_variance_have_neither_noise_nor_a_penalty():
    for cls in (SharedLinear, IndependentLinear, OneHotLinear):
        layer = make(cls)
        assert not isinstance(layer, PenalisedLayer)
        assert weight_noise(layer, generator()) is None
        assert local_noise(layer, 2, 3, generator()) is None


def test_state_dict_round_trip(layer):
    other = type(layer)(IN, OUT, M).double()
    x, task = randn(8, IN), torch.tensor(MIXES["mixed"])
    assert not torch.allclose(other(x, task), layer(x, task))
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(other(x, task), layer(x, task), rtol=0, atol=0)


@pytest.mark.parametrize("cls", LAYERS)
@pytest.mark.parametrize("sizes", [(0, 5, 4), (3, 0, 4), (3, 5, 0), (-1, 5, 4)])
def test_bad_sizes_raise(cls, sizes):
    with pytest.raises(ValueError, match="is not allowed"):
        cls(*sizes)


@pytest.mark.parametrize("tasks", [[0, M], [-1, 0], [0, 1, 2, M]])
def test_a_task_that_does_not_exist_raises(layer, tasks):
    """Also where it hides among as many groups as there are tasks."""
    with pytest.raises((IndexError, RuntimeError)):
        layer(randn(len(tasks), IN), torch.tensor(tasks))


@pytest.mark.parametrize("cls", LAYERS)
def test_initial_weights_are_orthogonal_and_scaled_by_the_gain(cls):
    layer = drawn(cls(IN, OUT, M).double(), gain=2.0)
    weight = layer.theta if isinstance(layer, VarShareLinear) else layer.weight
    for matrix in weight if weight.dim() == 3 else [weight]:
        # Of a one-hot layer the matrix spans the tasks' columns too, and is wider than high: its rows are orthogonal.
        gram = matrix.mT @ matrix if matrix.shape[1] <= OUT else matrix @ matrix.mT
        torch.testing.assert_close(gram, 4.0 * torch.eye(len(gram), dtype=torch.float64))
    assert not layer.bias.any()
    half = drawn(cls(IN, OUT, M).double(), gain=1.0)
    torch.testing.assert_close(weight, 2.0 * (half.theta if isinstance(half, VarShareLinear) else half.weight))


G, R = 3, 6


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("own_bias", [False, True])
@pytest.mark.parametrize("own_weight", [False, True])
@pytest.mark.parametrize("interleaved", [False, True])
def test_weights_apply_to_rows(interleaved, own_weight, own_bias, local):
    """Of each group or of all, and whatever the rows' layout in memory."""
    x = randn(R, G, IN).transpose(0, 1) if interleaved else randn(G, R, IN)
    weight = randn(G, OUT, IN, seed=1) if own_weight else randn(OUT, IN, seed=1)
    bias = randn(G, 1, OUT, seed=2) if own_bias else randn(OUT, seed=2)
    variance, zeta = randn(G, OUT, IN, seed=3).square(), randn(G, R, OUT, seed=4)
    output = LinearWeights(weight, bias, *((variance, zeta) if local else ())).apply(x)
    for g in range(G):
        for row in range(R):
            matrix, vector = weight[g] if own_weight else weight, bias[g, 0] if own_bias else bias
            expected = (matrix * x[g, row]).sum(1) + vector
            if local:
                expected = expected + (variance[g] * x[g, row].square()).sum(1).sqrt() * zeta[g, row]
            torch.testing.assert_close(output[g, row], expected)


def test_methods_by_name_make_their_layers():
    assert METHODS.items() <= method_names().items()
    expected = {
        "varshare": (VarShareLinear, VarShareLinear),
        "shared": (SharedLinear, SharedLinear),
        "shared_onehot": (OneHotLinear, SharedLinear),  # the task id stands beside the observation only
        "independent": (IndependentLinear, IndependentLinear),
    }
    for name, method in METHODS.items():
        made = [method().make_layer(LayerSpec("l", index, IN, OUT, M)) for index in (0, 1)]
        assert tuple(type(layer) for layer in made) == expected[name]
        assert all((layer.in_features, layer.out_features, layer.num_tasks) == (IN, OUT, M) for layer in made)
