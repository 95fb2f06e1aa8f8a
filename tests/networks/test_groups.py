import dataclasses

import pytest
import torch
from helpers import generator

from varshare_pl.networks.groups import TaskGroups


@pytest.mark.parametrize("task", [[1], [0, 0, 0], [2, 0, 2, 1, 2], [3, 3, 1], [0, 1, 2, 3]])
@pytest.mark.parametrize("keep_empty", [False, True])
def test_group_and_ungroup(task, keep_empty):
    task = torch.tensor(task)
    rows = torch.rand(len(task), 2, generator=generator())
    groups = TaskGroups.from_rows(task, 4, keep_empty)
    stacked = groups.group(rows)
    assert torch.equal(groups.ungroup(stacked), rows)
    assert groups.group_task.tolist() == (list(range(4)) if keep_empty else sorted(set(task.tolist())))
    for g, m in enumerate(groups.group_task.tolist()):
        own = rows[task == m]
        assert groups.counts[g] == len(own)
        assert torch.equal(stacked[g, : len(own)], own)  # the order within a task is kept
        assert groups.mask[g].tolist() == [r < len(own) for r in range(stacked.shape[1])]


def test_padding_repeats_a_row_of_the_same_task():
    task = torch.tensor([2, 0, 2, 2])
    groups = TaskGroups.from_rows(task, 3)
    assert groups.group(task).tolist() == [[0, 0, 0], [2, 2, 2]]


def test_shape_is_that_of_the_longest_group():
    groups = TaskGroups.from_rows(torch.tensor([2, 0, 2, 2]), 5, keep_empty=True)
    assert groups.index.shape == (5, 3)


@pytest.mark.parametrize("task", [[0, 3], [3], [0, 1, 2, 3], [-1, 0]])
@pytest.mark.parametrize("keep_empty", [False, True])
def test_a_task_that_does_not_exist_raises(task, keep_empty):
    """Tasks 0 and 3 of 3 are two groups: without the check they could pass for all there are."""
    with pytest.raises((IndexError, RuntimeError)):
        TaskGroups.from_rows(torch.tensor(task), 3, keep_empty)


def test_moving_keeps_everything():
    groups = TaskGroups.from_rows(torch.tensor([2, 0, 2, 2]), 3)
    moved = groups.to(torch.device("cpu"))
    for name in ("group_task", "counts", "index", "place"):
        assert torch.equal(getattr(moved, name), getattr(groups, name))


FIXED = [[0, 1, 2, 3] * 5, [1, 3] * 4, [2, 2, 2], [0], [0, 1, 2, 3], [3]]
RAGGED = [
    [0, 1, 2, 3, 0, 1, 2],  # the last round is not full
    [1, 0] * 4,  # another order
    [0, 0, 1, 1],  # one task after the other
    [0, 1, 1, 0],
    [0, 1, 2, 0, 1, 3],  # an env took another task
    [0, 0, 1],
]


@pytest.mark.parametrize("task", FIXED, ids=str)
def test_rows_in_turns_are_viewed_and_equal_to_those_by_index(task):
    """With fixed tasks row k belongs to group k mod G; grouping then needs no copy."""
    task = torch.tensor(task)
    views = TaskGroups.from_rows(task, 4)
    copies = dataclasses.replace(views, interleaved=False)
    assert views.interleaved
    shape = tuple(views.index.shape)
    for rows in (
        torch.rand(len(task), 3, generator=generator()),
        torch.rand(len(task), generator=generator()),
        torch.rand(len(task), 2, 3, generator=generator()),
        torch.rand(3, len(task), generator=generator()).mT,  # not contiguous
        torch.rand(2 * len(task), 3, generator=generator())[::2],
        task,
        task > 1,
    ):
        stacked = views.group(rows)
        assert stacked.shape == shape + rows.shape[1:]
        assert torch.equal(stacked, copies.group(rows))
        assert torch.equal(views.ungroup(stacked), rows)
        assert torch.equal(copies.ungroup(stacked), rows)
        for other in (stacked.contiguous(), stacked.clone().transpose(0, 1).contiguous().transpose(0, 1)):
            assert torch.equal(views.ungroup(other), rows)
    rows = torch.rand(len(task), 3, generator=generator())
    assert views.group(rows).data_ptr() == rows.data_ptr()
    assert views.ungroup(views.group(rows)).data_ptr() == rows.data_ptr()


def test_gradients_go_through_views_as_through_copies():
    task = torch.arange(12) % 4
    views = TaskGroups.from_rows(task, 4)
    gradients = []
    for groups in (views, dataclasses.replace(views, interleaved=False)):
        rows = torch.rand(12, 3, generator=generator(), dtype=torch.float64).requires_grad_()
        stacked = groups.group(rows) * torch.arange(1.0, 4.0)
        (groups.ungroup(stacked.sin()) * torch.arange(12.0)[:, None]).sum().backward()
        gradients.append(rows.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("task", RAGGED, ids=str)
@pytest.mark.parametrize("keep_empty", [False, True])
def test_other_orders_go_by_index(task, keep_empty):
    task = torch.tensor(task)
    groups = TaskGroups.from_rows(task, 4, keep_empty)
    assert not groups.interleaved
    assert torch.equal(groups.ungroup(groups.group(task)), task)


def test_groups_without_rows_go_by_index():
    assert not TaskGroups.from_rows(torch.tensor([0, 1, 0, 1]), 4, keep_empty=True).interleaved
    assert TaskGroups.from_rows(torch.tensor([0, 1, 0, 1]), 2, keep_empty=True).interleaved


def test_a_fixed_rollout_is_in_turns():
    """So that the case of every run with fixed tasks does take the short way."""
    task = (torch.arange(10) % 5).expand(24, 10)
    assert TaskGroups.from_rows(task.flatten(), 5).interleaved


@pytest.mark.parametrize("interleaved", [False, True])
def test_moving_keeps_the_way(interleaved):
    groups = TaskGroups.from_rows(torch.tensor([0, 1, 0, 1] if interleaved else [0, 0, 1, 1]), 2)
    assert groups.to(torch.device("cpu")).interleaved is interleaved
