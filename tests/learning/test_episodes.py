import pytest
import torch

from varshare_pl.learning.episodes import EpisodeLog
from varshare_pl.types import Episodes


def episodes(*rows, **info):
    task, returns = ([row[i] for row in rows] for i in (0, 1))
    lengths = [int(r) for r in returns]
    return Episodes(
        torch.tensor(task, dtype=torch.int64),
        torch.tensor(returns, dtype=torch.float32),
        torch.tensor(lengths, dtype=torch.int64),
        {name: torch.tensor(values, dtype=torch.float32) for name, values in info.items()},
    )


def test_returns_per_task():
    log = EpisodeLog(3)
    metrics, details = log.add(episodes((0, 10.0), (2, 5.0), (0, 20.0), success=[1.0, 0.0, 0.0]))
    returns = {"train/return_task_0": 15.0, "train/return_task_2": 5.0}
    assert metrics == {"episodes": 3, **returns, "train/success_mean": 0.25}  # a mean over tasks
    assert {(d.metric, d.task): d.value for d in details} == {
        ("train/length", 0): 15.0,
        ("train/length", 2): 5.0,
        ("train/success", 0): 0.5,
        ("train/success", 2): 0.0,
    }


def test_mean_waits_for_every_task_and_uses_the_latest_of_each():
    log = EpisodeLog(2)
    assert "train/return_mean" not in log.add(episodes((0, 10.0), (0, 10.0), (0, 10.0)))[0]
    assert log.add(episodes((1, 50.0)))[0]["train/return_mean"] == 30.0  # each task weighs the same
    metrics, _ = log.add(episodes((1, 70.0)))
    assert metrics == {"episodes": 5, "train/return_task_1": 70.0, "train/return_mean": 40.0}
    metrics, _ = log.add(episodes())
    assert metrics == {"episodes": 5, "train/return_mean": 40.0}


def test_state_survives_a_state_dict():
    log, other = EpisodeLog(2), EpisodeLog(2)
    log.add(episodes((0, 10.0), (1, 20.0)))
    other.load_state_dict(log.state_dict())
    assert other.add(episodes())[0] == {"episodes": 2, "train/return_mean": 15.0}


def test_one_task_is_still_a_list_of_tasks():
    metrics, details = EpisodeLog(1).add(episodes((0, 10.0), (0, 20.0), success=[1.0, 0.0]))
    assert metrics["train/return_task_0"] == metrics["train/return_mean"] == 15.0
    assert metrics["train/success_mean"] == 0.5
    assert ("train/length", 0) in {(d.metric, d.task) for d in details}


def test_means_of_many_episodes_keep_their_digits():
    """Sums of as many numbers in float32 are off by tens."""
    log = EpisodeLog(2)
    n = 1 << 16
    task = torch.zeros(n, dtype=torch.int64)
    values = torch.full((n,), 1_000_003.0, dtype=torch.float64)
    metrics, details = log.add(Episodes(task, values, values.long(), {"success": values / 3}))
    assert metrics["train/return_task_0"] == 1_000_003.0
    found = {d.metric: d.value for d in details}
    assert found["train/length"] == 1_000_003.0
    assert found["train/success"] == pytest.approx(1_000_003.0 / 3, rel=1e-12)
    for number, mean in ((0.1, 0.1), (16_777_217.0, 16_777_217.0)):
        one = Episodes(task[:1] + 1, torch.tensor([number], dtype=torch.float64), torch.tensor([1]))
        assert log.add(one)[0]["train/return_mean"] == pytest.approx((1_000_003.0 + mean) / 2, rel=1e-12)
    other = EpisodeLog(2)
    other.load_state_dict(log.state_dict())
    assert other.add(episodes())[0]["train/return_mean"] == (1_000_003.0 + 16_777_217.0) / 2


def with_success(*rows):
    """Episodes of task, return and success."""
    plain = episodes(*((task, value) for task, value, _ in rows))
    plain.success = torch.tensor([success for *_, success in rows], dtype=torch.float64)
    return plain


def test_success_is_a_mean_over_the_episodes_that_tell_it():
    log, nan = EpisodeLog(2, success=True), float("nan")
    metrics, details = log.add(with_success((0, 1.0, 1.0), (0, 1.0, 0.0), (0, 1.0, nan), (1, 4.0, nan)))
    assert metrics["train/success_task_0"] == 0.5
    assert "train/success_task_1" not in metrics
    assert "train/success_mean" not in metrics  # task 1 has told none
    assert metrics["train/return_mean"] == 2.5
    assert {d.task: d.value for d in details if d.metric == "train/success_missing"} == {0: 1.0, 1: 1.0}
    metrics, details = log.add(with_success((1, 4.0, 0.25)))
    assert metrics["train/success_mean"] == 0.375  # of each task's latest
    assert not [d for d in details if d.metric == "train/success_missing"]
    other = EpisodeLog(2, success=True)
    other.load_state_dict(log.state_dict())
    assert other.add(with_success((0, 1.0, 0.75)))[0]["train/success_mean"] == 0.5
    assert "latest_success" not in EpisodeLog(2).state_dict()  # as before where success is the return
