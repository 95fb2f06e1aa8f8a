"""Running moments, of each task and of all together, against NumPy's over all rows."""

import numpy as np
import pytest
import torch
from helpers import generator, randn

from varshare_pl.networks.moments import SMALLEST_STD, TaskMoments

M = 4


def parts(sizes, shape, seed=0, offset=0.0, spread=1.0, dtype=torch.float64):
    """Rows and tasks of some rollouts; task 3 has none, the others a mean and a spread of their own."""
    rows, tasks = [], []
    for number, size in enumerate(sizes):
        task = torch.randint(3, (size,), generator=generator(seed + number))
        own = (task.to(torch.float64) + 1.0).view(-1, *[1] * len(shape))
        rows.append((own * (spread * randn(size, *shape, seed=seed + number) + offset)).to(dtype))
        tasks.append(task)
    return rows, tasks


def moments_of(rows, tasks, shape, dtype=torch.float64, shared=False):
    moments = TaskMoments(M, shape, shared=shared).to(dtype)
    for part, task in zip(rows, tasks, strict=True):
        moments.update(part, task)
    return moments


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", [(), (3,)])
@pytest.mark.parametrize("sizes", [(50,), (1, 1, 1, 40), (7, 100, 2, 30)])
def test_merged_moments_are_those_of_all_rows(sizes, shape, seed):
    rows, tasks = parts(sizes, shape, seed, offset=3.0)
    moments = moments_of(rows, tasks, shape)
    every, task = torch.cat(rows).numpy(), torch.cat(tasks).numpy()
    for m in range(3):
        mine = every[task == m]
        assert moments.count[m] == len(mine)
        if len(mine):
            np.testing.assert_allclose(moments.mean[m].numpy(), mine.mean(0), rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(moments.variance[m].numpy(), mine.var(0), rtol=1e-10, atol=1e-12)
    together = moments_of([torch.cat(rows)], [torch.cat(tasks)], shape)
    torch.testing.assert_close(dict(moments.state_dict()), dict(together.state_dict()), rtol=1e-10, atol=1e-12)


def test_a_task_without_rows_is_left_as_it_is():
    rows, tasks = parts((30,), (2,))
    moments = moments_of(rows, tasks, (2,))
    x, task = randn(3, 2), torch.tensor([3, 3, 3])
    assert torch.equal(moments.normalise(x, task), x)
    assert torch.equal(moments.denormalise(x, task), x)
    before = {name: value.clone() for name, value in moments.state_dict().items()}
    moments.update(randn(4, 2), torch.tensor([3, 3, 3, 3]))
    for name, value in moments.state_dict().items():
        assert torch.equal(value[:3], before[name][:3]), name
        assert not torch.equal(value[3], before[name][3]), name


def test_many_small_updates_far_from_0_keep_their_digits():
    """In float32, where a sum of squares would leave nothing of a variance of 1 at a mean of 10,000."""
    rows, tasks = parts((20,) * 500, (), offset=1e4, dtype=torch.float32)
    moments = moments_of(rows, tasks, (), torch.float32)
    every, task = torch.cat(rows).double().numpy(), torch.cat(tasks).numpy()
    for m in range(3):
        assert moments.mean[m].item() == pytest.approx(every[task == m].mean(), rel=1e-6)
        assert moments.variance[m].item() == pytest.approx(every[task == m].var(), rel=1e-3)


def test_normalised_rows_have_mean_0_and_deviation_1():
    rows, tasks = parts((400,), (2,), offset=5.0, spread=3.0)
    moments = moments_of(rows, tasks, (2,))
    normal = moments.normalise(rows[0], tasks[0])
    for m in range(3):
        mine = normal[tasks[0] == m]
        torch.testing.assert_close(mine.mean(0), torch.zeros(2).double(), rtol=0, atol=1e-10)
        torch.testing.assert_close(mine.std(0, correction=0), torch.ones(2).double())
    torch.testing.assert_close(moments.denormalise(normal, tasks[0]), rows[0])


def test_what_does_not_vary_is_not_blown_up():
    moments = TaskMoments(1)
    moments.update(torch.full((9,), 7.0), torch.zeros(9, dtype=torch.int64))
    assert moments.std.item() == pytest.approx(SMALLEST_STD)
    assert moments.normalise(torch.tensor([7.0]), torch.tensor([0])).item() == 0.0


def test_shared_moments_by_hand():
    """Tasks weigh the same: of means 1 and 10 the middle is 5.5, whatever task 0 has more rows."""
    moments = TaskMoments(3, dtype=torch.float64, shared=True)
    moments.update(torch.tensor([0.0, 2.0, 10.0]), torch.tensor([0, 0, 2]))
    assert moments.count.tolist() == [3]
    assert moments.mean.tolist() == [5.5]
    assert moments.variance.tolist() == [((1 + 4.5**2) + (0 + 4.5**2)) / 2]
    moments.update(torch.tensor([20.5]), torch.tensor([1]))  # one row of four: a new task moves an old scale slowly
    assert moments.mean.tolist() == [5.5 + 15.0 / 4]
    assert moments.variance.item() == pytest.approx(0.75 * 20.75 + 0.75 * 0.25 * 15.0**2)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", [(), (3,)])
@pytest.mark.parametrize("sizes", [(50,), (1, 1, 1, 40), (7, 100, 2, 30)])
def test_shared_moments_are_weighted_ones_of_all_rows(sizes, shape, seed):
    rows, tasks = parts(sizes, shape, seed, offset=3.0)
    moments = moments_of(rows, tasks, shape, shared=True)
    weights = []
    for task in tasks:
        count = np.bincount(task.numpy(), minlength=M)
        weights.append(len(task) / (np.count_nonzero(count) * count[task.numpy()]))
    every, weight = torch.cat(rows).numpy(), np.concatenate(weights)
    mean = np.average(every, 0, weight)
    np.testing.assert_allclose(moments.mean[0].numpy(), mean, rtol=1e-12, atol=1e-12)
    variance = np.average((every - mean) ** 2, 0, weight)
    np.testing.assert_allclose(moments.variance[0].numpy(), variance, rtol=1e-10, atol=1e-12)
    assert moments.count.tolist() == [sum(sizes)]


def test_all_tasks_have_the_shared_moments_those_without_rows_too():
    rows, tasks = parts((30,), (2,), offset=4.0)
    moments = moments_of(rows, tasks, (2,), shared=True)
    mean, std = moments.by_task()
    assert mean.shape == std.shape == (M, 2)
    x, task = randn(6, 2), torch.tensor([3, 0, 1, 2, 3, 3])
    expected = (x - moments.mean[0]) / moments.variance[0].sqrt()
    torch.testing.assert_close(moments.normalise(x, task), expected)
    torch.testing.assert_close(moments.denormalise(expected, task), x)
    before = {name: value.clone() for name, value in moments.state_dict().items()}
    moments.update(torch.zeros(0, 2).double(), torch.zeros(0, dtype=torch.int64))
    torch.testing.assert_close(dict(moments.state_dict()), before, rtol=0, atol=0)


@pytest.mark.parametrize("shared", [False, True])
def test_a_floor_keeps_tiny_numbers_tiny(shared):
    """Of a task that has not seen reward yet, say."""
    moments = TaskMoments(1, shared=shared)
    rows, task = 1e-7 * randn(50, dtype=torch.float32), torch.zeros(50, dtype=torch.int64)
    moments.update(rows, task)
    assert moments.normalise(rows, task).abs().max() < 0.01
