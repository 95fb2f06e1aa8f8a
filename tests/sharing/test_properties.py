"""What every sharing method of the package must do, whole networks at a time; a new method is picked up by itself.

The README's example of a method is among them.

Which axis of a parameter belongs to the tasks is seen from nets of M and M + 1 tasks: it is longer by one.
"""

import warnings
from functools import cache
from typing import Any

import pytest
import torch
from helpers import VARIANTS, collect, fit, generator, make_policy, make_spec, perturb, randn, readme_example
from stopping import StopAfter
from torch.autograd import gradcheck
from torch.func import functional_call

from varshare_pl.envs import get_suite
from varshare_pl.gradients import accumulate
from varshare_pl.learning.acting import Behaviour
from varshare_pl.networks.groups import TaskGroups
from varshare_pl.ppo import compiled
from varshare_pl.ppo.module import PPOModule
from varshare_pl.random import array_stream
from varshare_pl.sharing import FlipoutNoise, NetworkSpec, method_names

METHODS = {name: cls for name, cls in method_names().items() if cls.__module__.startswith("varshare_pl.")} | VARIANTS
example: dict[str, Any] = {"__name__": "task_bias"}
exec(readme_example(), example)
METHODS["README's"] = example["TaskBias"]
NO_TASK_AXIS: dict[str, str] = {}
"""Methods whose parameters cannot be taken apart by task, and why: no relabelling, no net of one task cut out."""

M, IN, OUT = 7, 3, 2  # 7 is no size that a method has by default
MIXES = {
    "mixed": [2, 0, 3, 1, 4, 5, 6, 0, 2],
    "ragged": [1, 3, 1, 1, 0, 1, 2, 1],
    "absent": [3, 1, 5, 3, 1],
    "one-row": [4],
}
SUITE = "MirroredCartPole"

pytestmark = pytest.mark.parametrize("method", METHODS)
mixes = pytest.mark.parametrize("mix", MIXES)
kinds = pytest.mark.parametrize("kind", ["mean", "weights"])
all_kinds = pytest.mark.parametrize("kind", ["mean", "weights", "local", "flipout"])


def make(method, tasks=M, seed=0, dtype=torch.float64, network="actor"):
    spec = NetworkSpec(network, IN, (8, 8), OUT if network == "actor" else 1, tasks)
    torso = METHODS[method]().make_network(spec, generator(seed)).to(dtype)
    perturb(torso)
    return torso


def rows(mix):
    task = torch.tensor(MIXES[mix])
    return randn(len(task), IN), task


def weight_noise(torso, kind):
    return torso.draw_weight_noise(generator(1)) if kind == "weights" else None


def noise_of(torso, kind, groups, rows):
    """Noise of any kind for (groups, rows) rows."""
    if kind == "local":
        return torso.draw_local_noise(groups, rows, array_stream(1, "a"))
    if kind == "flipout":
        return torso.draw_flipout_noise(groups, rows, generator(1), array_stream(1, "a"))
    return weight_noise(torso, kind)


def of_task(noise, m):
    """What is left of the noise of all tasks for a net of the task m alone."""
    if isinstance(noise, FlipoutNoise):
        return noise._replace(eps=noise.eps[m : m + 1])
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


def with_tasks(method, torso, tasks):
    """The state of a net whose task k is the task tasks[k] of this one."""
    if method in NO_TASK_AXIS:
        pytest.skip(NO_TASK_AXIS[method])
    state = dict(torso.state_dict())
    for name, (axis, start) in task_axes(method).items():
        index = torch.cat([torch.arange(start), start + torch.tensor(tasks)])
        state[name] = state[name].index_select(axis, index)
    return state


@kinds
@mixes
def test_mixed_batch_equals_batches_of_each_task(method, mix, kind):
    torso, (x, task) = make(method), rows(mix)
    noise = weight_noise(torso, kind)
    output = torso(x, task, noise)
    assert output.shape == (len(task), OUT)
    for m in task.unique():
        alone = torso(x[task == m], task[task == m], noise)
        torch.testing.assert_close(output[task == m], alone)


@kinds
@mixes
def test_permuting_rows_permutes_outputs(method, mix, kind):
    torso, (x, task) = make(method), rows(mix)
    noise, order = weight_noise(torso, kind), torch.randperm(len(task), generator=generator(3))
    torch.testing.assert_close(torso(x[order], task[order], noise), torso(x, task, noise)[order])


@kinds
def test_relabelling_tasks_changes_no_output(method, kind):
    torso, (x, task) = make(method), rows("mixed")
    noise = weight_noise(torso, kind)
    old_name = torch.tensor([2, 0, 3, 6, 1, 4, 5])
    new_name = old_name.argsort()
    expected, kl = torso(x, task, noise), torso.kl()
    torso.load_state_dict(with_tasks(method, torso, old_name.tolist()))
    noise = noise and [eps if eps is None else eps[old_name] for eps in noise]
    torch.testing.assert_close(torso(x, new_name[task], noise), expected)
    torch.testing.assert_close(torso.kl(), kl[old_name])


@all_kinds
def test_absent_tasks_get_no_gradient_from_data(method, kind):
    if method in NO_TASK_AXIS:
        pytest.skip(NO_TASK_AXIS[method])
    torso, (x, task) = make(method), rows("absent")
    groups = TaskGroups.from_rows(task, M)
    noise = noise_of(torso, kind, *groups.index.shape)
    torso.compute(torso.prepare(groups.group_task, noise), groups.group(x)).square().sum().backward()
    present = torch.bincount(task, minlength=M) > 0
    parameters = dict(torso.named_parameters())
    for name, (axis, start) in task_axes(method).items():
        if name in parameters and parameters[name].grad is not None:
            used = parameters[name].grad.movedim(axis, 0)[start:].flatten(1).abs().sum(1) > 0
            assert used.tolist() == present.tolist(), name


@all_kinds
@pytest.mark.parametrize("m", [0, 4])
def test_a_net_of_one_task_equals_that_part_of_the_net_of_all(method, m, kind):
    torso, single, x = make(method), make(method, tasks=1, seed=9), randn(5, IN)
    single.load_state_dict(with_tasks(method, torso, [m]))
    noise = noise_of(torso, kind, 1, 5)
    own = noise and [of_task(eps, m) for eps in noise]
    alone = single.compute(single.prepare(torch.tensor([0]), own), x[None])
    torch.testing.assert_close(alone, torso.compute(torso.prepare(torch.tensor([m]), noise), x[None]))
    torch.testing.assert_close(single.kl(), torso.kl()[m : m + 1])


@mixes
def test_padding_and_empty_groups_change_nothing(method, mix):
    torso, (x, task) = make(method), rows(mix)
    groups = TaskGroups.from_rows(task, M, keep_empty=True)
    output = groups.ungroup(torso.compute(torso.prepare(groups.group_task), groups.group(x)))
    parameters = [p for p in torso.parameters() if p.requires_grad]
    one_by_one = [torso(x[row : row + 1], task[row : row + 1]) for row in range(len(task))]
    torch.testing.assert_close(output, torch.cat(one_by_one))
    found, expected = (
        torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True)
        for total in (output.square().sum(), sum(part.square().sum() for part in one_by_one))
    )
    torch.testing.assert_close(found, expected)


class Grouped(torch.nn.Module):
    """A torso called with groups, as ``functional_call`` needs it."""

    def __init__(self, torso):
        super().__init__()
        self.torso = torso

    def forward(self, group_task, noise, x):
        return self.torso.compute(self.torso.prepare(group_task, noise), x)


@all_kinds
@pytest.mark.parametrize("tasks", [list(range(M)), [1, 2, 5]], ids=["all", "some"])
def test_gradients_by_hand_are_autograds(method, kind, tasks):
    """Of the output and of the KL, for all parameters; neither changes what it was made of."""
    torso, x, group_task = make(method), randn(len(tasks), 4, IN), torch.tensor(tasks)
    noise, seed, kl_scale = noise_of(torso, kind, len(tasks), 4), randn(len(tasks), 4, OUT, seed=5), 0.3
    output = torso.compute(torso.prepare(group_task, noise), x)
    ((output * seed).sum() + kl_scale * torso.kl().sum()).backward()
    expected = {name: p.grad for name, p in torso.named_parameters() if p.grad is not None}
    torso.zero_grad(set_to_none=True)
    for held in (False, True):  # whether there is a gradient to add to
        found, pullback = torso.with_pullback(group_task, noise, x)
        kl, of_kl = torso.kl_with_pullback()
        assert torch.equal(found, output)
        torch.testing.assert_close(kl, torso.kl().detach())
        assert not found.requires_grad
        assert not kl.requires_grad
        accumulate(pullback(seed) + of_kl(kl_scale))
        for name, parameter in torso.named_parameters():
            gradient = expected.get(name, torch.zeros_like(parameter)) * (2 if held else 1)
            torch.testing.assert_close(
                torch.zeros_like(parameter) if parameter.grad is None else parameter.grad,
                gradient,
                rtol=1e-9,
                atol=1e-11,
            )
    assert torch.equal(torso.compute(torso.prepare(group_task, noise), x), output)


@pytest.mark.parametrize("processes", [2, 3, 9])
@pytest.mark.parametrize("held", [False, True], ids=["no gradient yet", "a gradient to add to"])
def test_the_kl_of_several_processes_is_that_of_one_in_the_mean(method, processes, held):
    torso = make(method)
    if held:
        for parameter in torso.parameters():
            parameter.grad = torch.zeros_like(parameter)
    whole, pullback = torso.kl_with_pullback()
    accumulate(pullback(0.3))
    expected = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in torso.parameters()]
    kl, found = torch.zeros_like(whole), [torch.zeros_like(p) for p in torso.parameters()]
    for rank in range(processes):
        torso.zero_grad(set_to_none=not held)
        part, pullback = torso.kl_with_pullback(rank, processes)
        accumulate(pullback(0.3))
        kl += part / processes
        for total, parameter in zip(found, torso.parameters(), strict=True):
            if parameter.grad is not None:
                total += parameter.grad / processes
    torch.testing.assert_close(kl, whole)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("network", ["actor", "critic"])
@all_kinds
def test_gradients_are_those_of_differences(method, kind, network):
    torso, x, group_task = make(method, network=network), randn(3, 2, IN), torch.tensor([1, 2, 5])
    noise = noise_of(torso, kind, 3, 2)
    net = Grouped(torso)
    names = [name for name, p in net.named_parameters() if p.requires_grad]
    values = [dict(net.named_parameters())[name].detach().clone().requires_grad_() for name in names]

    def output(x, *values):
        return functional_call(net, dict(zip(names, values, strict=True)), (group_task, noise, x))

    assert gradcheck(output, (x.requires_grad_(), *values), fast_mode=True)


def test_state_dict_round_trip(method):
    torso, (x, task) = make(method), rows("mixed")
    other = METHODS[method]().make_network(NetworkSpec("actor", IN, (8, 8), OUT, M), generator(5)).double()
    assert not torch.allclose(other(x, task), torso(x, task))
    other.load_state_dict(torso.state_dict())
    assert torch.equal(other(x, task), torso(x, task))


@kinds
def test_bf16_autocast_stays_near(method, kind):
    torso = make(method, dtype=torch.float32)
    x, task = rows("ragged")
    x, noise = x.float(), weight_noise(torso, kind)
    expected = torso(x, task, noise)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = torso(x, task, noise)
    output.sum().backward()
    assert output.dtype is torch.float32
    torch.testing.assert_close(output, expected, rtol=0.05, atol=0.05 * float(expected.detach().abs().max()))
    assert all(p.grad.isfinite().all() for p in torso.parameters() if p.grad is not None)


@pytest.mark.parametrize("mode", ["rollout", "stored"])
def test_pure_acting_equals_acting(method, mode):
    policy = make_policy(SUITE, METHODS[method]())
    perturb(policy)
    groups = TaskGroups.from_rows(torch.tensor([0, 1, 0, 1, 1]), 2)
    obs = randn(5, 4, dtype=torch.float32)
    eager, pure = (Behaviour(policy, mode, 1, 0, torch.device("cpu")) for _ in range(2))
    noise = eager.draw_action_noise(1, 5)[0]
    tensors = pure.tensors(groups)
    for one, two in zip(eager(obs, groups, noise), pure.act(tensors, obs, groups, noise), strict=True):
        torch.testing.assert_close(two, one)
    _, moved = pure.act([2.0 * tensor for tensor in tensors], obs, groups, noise)
    assert not torch.allclose(moved, eager(obs, groups, noise)[1])


def trace(function, arguments, name):
    """In place of the compiler: the graph that it would get, run by torch."""
    from torch.fx.experimental.proxy_tensor import make_fx

    with warnings.catch_warnings(action="ignore"):
        return make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)(*arguments)


def test_a_traced_gradient_step_is_an_eager_one(method, monkeypatch):
    monkeypatch.setattr(compiled, "compile_function", trace)
    weights = []
    for traced in (False, True):
        spec = make_spec(get_suite(SUITE), 16)
        module = PPOModule(spec, METHODS[method](), hidden_sizes=(8, 8), minibatch_size=16, update_epochs=1)
        perturb(module, 0.1)
        optimizer = module.configure_optimizers()
        eager = module.stepping.eager(optimizer)
        (rollout,) = collect(module.policy, SUITE, num_envs=4, steps=4)
        module.learner(rollout, module.stepping.compiled(optimizer) if traced else eager)
        weights.append([p.detach().clone() for p in module.parameters()])
    for one, two in zip(*weights, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)


def test_a_resumed_fit_equals_an_uninterrupted_one(method, tmp_path):
    data = {"rollout_steps": 16, "total_env_steps": 2 * 64}
    options = {"minibatch_size": 32, "update_epochs": 1}
    whole = fit(data, sharing=METHODS[method](), **options)
    path = tmp_path / "stopped.ckpt"
    first = fit(data, [StopAfter(1, path)], sharing=METHODS[method](), **options)
    torch.manual_seed(77)  # nothing hangs on the global generator
    rest = fit(data, sharing=METHODS[method](), ckpt_path=path, **options)
    assert [r.env_steps for r in first.records + rest.records] == [64, 128]
    state, expected = rest.module.state_dict(), whole.module.state_dict()
    torch.testing.assert_close(dict(state), dict(expected), rtol=0, atol=0, equal_nan=True)
