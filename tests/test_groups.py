import pytest
import torch
from helpers import generator

from varshare_pl.groups import TaskGroups


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
