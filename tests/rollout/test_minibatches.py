"""Minibatches: every row once, the same share of each task, the same weight for each task."""

import pytest
import torch
from helpers import generator

from varshare_pl.networks.groups import TaskGroups
from varshare_pl.rollout.minibatches import ROW_FIELDS, minibatches, task_weights

M = 5
MIXES = {
    "equal": [0, 1, 2, 3, 4] * 12,
    "ragged": [0] * 31 + [1] * 7 + [2] * 12 + [3] * 9 + [4] * 1,
    "missing": [1] * 20 + [4] * 13,
    "fewer rows than minibatches": [0] * 2 + [1] * 40 + [3] * 3,
    "one task": [2] * 16,
    "one row each": [3, 0, 4],
}
SHARES = [1, 4, 6]


@pytest.fixture(params=MIXES, ids=lambda name: name.replace(" ", "-"))
def task(request):
    task = torch.tensor(MIXES[request.param])
    return task[torch.randperm(len(task), generator=generator(9))]


def make_rows(task):
    """Rows that tell their own number and task."""
    number = torch.arange(len(task), dtype=torch.float64)
    rows = dict.fromkeys(ROW_FIELDS, number)
    return rows | {"obs": torch.stack([number, task.double()], 1), "actions": torch.arange(len(task))}


def epoch(rows, groups, parts, g, weights=None):
    if weights is None:
        weights = task_weights(rows["obs"][:, 1].long(), M)
    return minibatches(rows, groups, parts, weights, g)


@pytest.mark.parametrize("parts", SHARES)
def test_each_row_exactly_once_and_in_its_task(task, parts):
    groups = TaskGroups.from_rows(task, M)
    seen = torch.zeros(len(task), dtype=torch.int64)
    batches = list(epoch(make_rows(task), groups, parts, generator()))
    assert len(batches) == parts
    for batch in batches:
        assert torch.equal(batch.obs[..., 1], batch.group_task[:, None].expand(batch.weight.shape).double())
        for name in ROW_FIELDS:  # all fields of a place come from one row
            values = getattr(batch, name)
            assert torch.equal(values[..., 0] if name == "obs" else values.double(), batch.values)
        real = batch.weight > 0
        seen += torch.bincount(batch.actions[real], minlength=len(task))
    assert seen.tolist() == [1] * len(task)


@pytest.mark.parametrize("parts", SHARES)
def test_stratified(task, parts):
    """A task's rows are spread evenly: its counts differ by at most 1 between minibatches."""
    groups = TaskGroups.from_rows(task, M)
    counts = torch.stack([(batch.weight > 0).sum(1) for batch in epoch(make_rows(task), groups, parts, generator())])
    assert (counts.amax(0) - counts.amin(0) <= 1).all()
    assert torch.equal(counts.sum(0), groups.counts)


@pytest.mark.parametrize("parts", SHARES)
def test_every_task_present_weighs_the_same(task, parts):
    groups = TaskGroups.from_rows(task, M)
    weight = torch.stack([batch.weight.sum(1) for batch in epoch(make_rows(task), groups, parts, generator())])
    present = len(groups.counts)
    torch.testing.assert_close(weight.mean(0), torch.full((present,), 1 / present))


@pytest.mark.parametrize("parts", SHARES)
def test_mean_of_minibatch_gradients_is_the_full_gradient(task, parts):
    """The full gradient is that of the mean over tasks of each task's mean."""
    torch.set_default_dtype(torch.float64)
    try:
        groups = TaskGroups.from_rows(task, M)
        targets = torch.randn(len(task), generator=generator(4))
        rows = make_rows(task) | {"returns": targets}
        theta = torch.tensor(0.3, requires_grad=True)
        full = torch.stack([(theta - targets[task == m]).square().mean() for m in task.unique()]).mean()
        (expected,) = torch.autograd.grad(full, theta)
        gradients = []
        for batch in epoch(rows, groups, parts, generator()):
            loss = (batch.weight * (theta - batch.returns).square()).sum()
            gradients += torch.autograd.grad(loss, theta)
        torch.testing.assert_close(torch.stack(gradients).mean(), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_padding_weighs_nothing_and_repeats_a_row_of_its_group():
    task = torch.tensor([0, 0, 0, 0, 1])
    batches = list(epoch(make_rows(task), TaskGroups.from_rows(task, 2), 2, generator()))
    index, weight = (torch.stack([getattr(batch, name) for batch in batches]) for name in ("actions", "weight"))
    assert index.shape == weight.shape == (2, 2, 2)
    assert torch.equal(task[index][:, 1], torch.ones(2, 2, dtype=torch.int64))
    assert sorted(weight.flatten().tolist()) == [0, 0, 0, 0.25, 0.25, 0.25, 0.25, 1]


def test_order_hangs_on_the_generator_and_moves_on():
    task = torch.tensor(MIXES["equal"])
    groups = TaskGroups.from_rows(task, M)

    def order(g):
        return [batch.actions.tolist() for batch in epoch(make_rows(task), groups, 4, g)]

    torch.manual_seed(0)
    first = order(generator(1))
    torch.manual_seed(1)
    assert order(generator(1)) == first
    assert order(generator(2)) != first
    g = generator(1)
    assert order(g) == first
    assert order(g) != first  # the second epoch


def test_given_row_weights_are_used():
    """Weights over the rows of all processes: half of task 0's rows and none of task 1's are here."""
    task = torch.tensor([0, 0, 2])
    whole = torch.tensor([0, 0, 2, 0, 0, 1])
    weights = task_weights(whole, 3)
    torch.testing.assert_close(weights, torch.tensor([1 / 12, 1 / 3, 1 / 3]))
    batches = list(epoch(make_rows(task), TaskGroups.from_rows(task, 3), 1, generator(), weights))
    torch.testing.assert_close(batches[0].weight, torch.tensor([[1 / 12, 1 / 12], [1 / 3, 0.0]]))


def test_a_task_without_rows_has_weight_zero():
    assert task_weights(torch.tensor([1, 1]), 3).tolist() == [0.0, 0.5, 0.0]


def test_every_order_is_as_likely():
    """Each of 4 rows comes first in a quarter of 4,000 epochs, within 4 standard errors; the seed is fixed."""
    task, g, n = torch.zeros(4, dtype=torch.int64), generator(5), 4000
    groups, rows = TaskGroups.from_rows(task, 1), make_rows(torch.zeros(4, dtype=torch.int64))
    weights = task_weights(task, 1)
    first = [next(minibatches(rows, groups, 4, weights, g)).actions[0, 0] for _ in range(n)]
    assert ((torch.bincount(torch.stack(first)) / n - 0.25).abs() <= 4 * (0.25 * 0.75 / n) ** 0.5).all()
