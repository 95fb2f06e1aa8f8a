"""What every sharing method of the package must do, whole networks at a time; a new method is picked up by itself.

Which axis of a parameter belongs to the tasks is seen from nets of M and M + 1 tasks: it is longer by one.
"""

from functools import cache

import pytest
import torch
from every_method import IN, OUT, M, every_method, make, make_perturbed
from helpers import generator, randn
from torch.autograd import gradcheck
from torch.func import functional_call

from varshare_pl.networks.groups import TaskGroups
from varshare_pl.networks.layer import TaskLinear
from varshare_pl.networks.network import tensors_of, with_tensors
from varshare_pl.networks.noise import local_noise, weight_noise

NO_TASK_AXIS: dict[str, str] = {}
"""Methods whose parameters cannot be taken apart by task, and why: no relabelling, no net of one task cut out."""

MIXES = {
    "mixed": [2, 0, 3, 1, 4, 5, 6, 0, 2],
    "ragged": [1, 3, 1, 1, 0, 1, 2, 1],
    "absent": [3, 1, 5, 3, 1],
    "one-row": [4],
}

pytestmark = every_method
mixes = pytest.mark.parametrize("mix", MIXES)
kinds = pytest.mark.parametrize("kind", ["mean", "weights"])
all_kinds = pytest.mark.parametrize("kind", ["mean", "weights", "local"])


def rows(mix):
    task = torch.tensor(MIXES[mix])
    return randn(len(task), IN), task


def noise_of(network, kind, groups=0, rows=0):
    """Noise of any kind, where it is by row for (groups, rows) rows."""
    layers = [layer for _, layer in network.layers()]
    weights, of_rows = generator(1), generator(2)
    if kind == "weights":
        return [weight_noise(layer, weights) for layer in layers]
    if kind == "local":
        return [local_noise(layer, groups, rows, of_rows) for layer in layers]
    return None


def of_task(noise, m):
    """What is left of the noise of all tasks for a net of the task m alone."""
    return noise[m : m + 1] if isinstance(noise, torch.Tensor) else noise


@cache
def task_axes(method):
    """Of the tensors that grow with the tasks: axis, and the place on it where task 0 is."""
    fewer, more = (make(method, tasks).state_dict() for tasks in (M, M + 1))
    assert fewer.keys() == more.keys()
    axes = {}
    for name, tensor in fewer.items():
        grown = [b - a for a, b in zip(tensor.shape, more[name].shape, strict=True)]
        assert sorted(grown)[:-1] == [0] * (len(grown) - 1), name
        assert max(grown, default=0) in (0, 1), f"{name}: give the reason in NO_TASK_AXIS"
        if any(grown):
            axis = grown.index(1)
            axes[name] = axis, tensor.shape[axis] - M
    return axes


def with_tasks(method, network, tasks):
    """The state of a net whose task k is the task tasks[k] of this one."""
    if method in NO_TASK_AXIS:
        pytest.skip(NO_TASK_AXIS[method])
    state = dict(network.state_dict())
    for name, (axis, start) in task_axes(method).items():
        index = torch.cat([torch.arange(start), start + torch.tensor(tasks)])
        state[name] = state[name].index_select(axis, index)
    return state


@kinds
@mixes
def test_mixed_batch_equals_batches_of_each_task(method, mix, kind):
    network, (x, task) = make_perturbed(method), rows(mix)
    noise = noise_of(network, kind)
    output = network(x, task, noise)
    assert output.shape == (len(task), OUT)
    for m in task.unique():
        alone = network(x[task == m], task[task == m], noise)
        torch.testing.assert_close(output[task == m], alone)


@kinds
@mixes
def test_permuting_rows_permutes_outputs(method, mix, kind):
    network, (x, task) = make_perturbed(method), rows(mix)
    noise, order = noise_of(network, kind), torch.randperm(len(task), generator=generator(3))
    torch.testing.assert_close(network(x[order], task[order], noise), network(x, task, noise)[order])


@kinds
def test_relabelling_tasks_changes_no_output(method, kind):
    network, (x, task) = make_perturbed(method), rows("mixed")
    noise = noise_of(network, kind)
    old_name = torch.tensor([2, 0, 3, 6, 1, 4, 5])
    new_name = old_name.argsort()
    expected, kl = network(x, task, noise), network.kl()
    network.load_state_dict(with_tasks(method, network, old_name.tolist()))
    noise = noise and [eps if eps is None else eps[old_name] for eps in noise]
    torch.testing.assert_close(network(x, new_name[task], noise), expected)
    torch.testing.assert_close(network.kl(), kl[old_name])


@all_kinds
def test_absent_tasks_get_no_gradient_from_data(method, kind):
    if method in NO_TASK_AXIS:
        pytest.skip(NO_TASK_AXIS[method])
    network, (x, task) = make_perturbed(method), rows("absent")
    groups = TaskGroups.from_rows(task, M)
    noise = noise_of(network, kind, *groups.index.shape)
    network.compute(network.prepare(groups.group_task, noise), groups.group(x)).square().sum().backward()
    present = torch.bincount(task, minlength=M) > 0
    parameters = dict(network.named_parameters())
    for name, (axis, start) in task_axes(method).items():
        if name in parameters and parameters[name].grad is not None:
            used = parameters[name].grad.movedim(axis, 0)[start:].flatten(1).abs().sum(1) > 0
            assert used.tolist() == present.tolist(), name


@all_kinds
@pytest.mark.parametrize("m", [0, 4])
def test_a_net_of_one_task_equals_that_part_of_the_net_of_all(method, m, kind):
    network, single, x = make_perturbed(method), make(method, tasks=1, seed=9), randn(5, IN)
    single.load_state_dict(with_tasks(method, network, [m]))
    noise = noise_of(network, kind, 1, 5)
    own = noise and [of_task(eps, m) for eps in noise]
    alone = single.compute(single.prepare(torch.tensor([0]), own), x[None])
    torch.testing.assert_close(alone, network.compute(network.prepare(torch.tensor([m]), noise), x[None]))
    torch.testing.assert_close(single.kl(), network.kl()[m : m + 1])


@mixes
def test_padding_and_empty_groups_change_nothing(method, mix):
    network, (x, task) = make_perturbed(method), rows(mix)
    groups = TaskGroups.from_rows(task, M, keep_empty=True)
    output = groups.ungroup(network.compute(network.prepare(groups.group_task), groups.group(x)))
    parameters = list(network.parameters())
    one_by_one = [network(x[row : row + 1], task[row : row + 1]) for row in range(len(task))]
    torch.testing.assert_close(output, torch.cat(one_by_one))
    found, expected = (
        torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True)
        for total in (output.square().sum(), sum(part.square().sum() for part in one_by_one))
    )
    torch.testing.assert_close(found, expected)


class Grouped(torch.nn.Module):
    """A network called with groups, and its KL, as ``functional_call`` needs it."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, group_task, noise, x):
        return self.network.compute(self.network.prepare(group_task, noise), x), self.network.kl()


@pytest.mark.parametrize("network", ["actor", "critic"])
@all_kinds
def test_gradients_are_those_of_differences(method, kind, network):
    """Of the output and of the KL; absent tasks are among the parameters."""
    net, x, group_task = Grouped(make_perturbed(method, network=network)), randn(3, 2, IN), torch.tensor([1, 2, 5])
    noise = noise_of(net.network, kind, 3, 2)
    names, values = zip(*net.named_parameters(), strict=True)
    values = [value.detach().clone().requires_grad_() for value in values]

    def outputs(x, *values):
        return functional_call(net, dict(zip(names, values, strict=True)), (group_task, noise, x))

    assert gradcheck(outputs, (x.requires_grad_(), *values), fast_mode=True)


def test_every_weight_has_a_gradient(method):
    """Of the output, with or without noise, or of the KL; what tasks have of their own has one for each task."""
    network, (x, task) = make_perturbed(method), rows("mixed")
    for kind in ("mean", "weights"):
        (network(x, task, noise_of(network, kind)).square().sum() + network.kl().sum()).backward()
    for name, p in network.named_parameters():
        assert p.grad is not None, f"{name} is not used"
        axis, start = task_axes(method).get(name, (None, 0))
        parts = [p.grad] if axis is None else p.grad.unbind(axis)[start:]
        assert all(part.any() for part in parts), f"{name} is without a gradient"


@all_kinds
def test_a_forward_and_its_gradient_change_nothing_else(method, kind):
    """Weights go on to be trained, and noise and rows are used again at every epoch."""
    network, x, group_task = make_perturbed(method), randn(3, 2, IN), torch.tensor([1, 2, 5])
    noise = noise_of(network, kind, 3, 2)

    def run():
        output = network.compute(network.prepare(group_task, noise), x)
        (output.square().sum() + network.kl().sum()).backward()
        return output

    state, rows = {name: value.clone() for name, value in network.state_dict().items()}, x.clone()
    assert torch.equal(run(), run())
    torch.testing.assert_close(dict(network.state_dict()), state, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(x, rows)


@all_kinds
def test_every_weight_is_in_what_is_prepared(method, kind):
    """Compiled acting and exported policies take them from there."""
    network, x, group_task = make_perturbed(method), randn(3, 2, IN), torch.tensor([1, 2, 5])
    with torch.no_grad():
        prepared = network.prepare(group_task, noise_of(network, kind, 3, 2))
        kept = with_tensors(prepared, iter([tensor.clone() for tensor in tensors_of(prepared)]))
        expected = network.compute(prepared, x)
        for p in network.parameters():
            p.fill_(torch.nan)
        torch.testing.assert_close(network.compute(kept, x), expected)


def test_state_dict_round_trip(method):
    network, (x, task) = make_perturbed(method), rows("mixed")
    other = make(method, seed=5)
    assert not torch.allclose(other(x, task), network(x, task))
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(x, task), network(x, task))


def test_initial_weights_hang_on_the_generator_alone(method):
    """The global random state is neither read nor moved."""

    def weights(seed, global_seed):
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        drawn = torch.cat([p.detach().flatten() for p in make(method, seed=seed).parameters()])
        assert torch.equal(torch.get_rng_state(), before)
        return drawn

    assert torch.equal(weights(1, 0), weights(1, 1))
    assert not torch.equal(weights(1, 0), weights(2, 0))


def test_a_layers_weights_hang_on_the_generator_alone(method):
    """Not on those that it had before either."""
    for layer in make(method).modules():
        if isinstance(layer, TaskLinear):
            drawn = []
            for global_seed, seed in enumerate((4, 5, 4)):
                torch.manual_seed(global_seed)
                before = torch.get_rng_state()
                layer.reset_parameters(2.0, generator(seed))
                assert torch.equal(torch.get_rng_state(), before)
                drawn.append(torch.cat([p.detach().flatten() for p in layer.parameters()]))
            assert torch.equal(drawn[0], drawn[2])
            assert not torch.equal(drawn[0], drawn[1])


@kinds
def test_bf16_autocast_stays_near(method, kind):
    network = make_perturbed(method, dtype=torch.float32)
    x, task = rows("ragged")
    x, noise = x.float(), noise_of(network, kind)
    expected = network(x, task, noise)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(x, task, noise)
    output.sum().backward()
    assert output.dtype is torch.float32
    assert not torch.equal(output, expected)
    torch.testing.assert_close(output, expected, rtol=0.05, atol=0.05 * float(expected.detach().abs().max()))
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
