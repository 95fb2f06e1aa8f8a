import math

import pytest
import torch
from helpers import randn

from varshare_pl.ppo.losses import approximate_kl, clipped_surrogate, squared_error
from varshare_pl.ppo.update import explained_variance
from varshare_pl.rollout.advantages import normalise_advantages


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss"),
    [
        (1.0, 2.0, -2.0),
        (1.1, 2.0, -2.2),
        (1.5, 2.0, -2.4),  # clipped: no reward for going further up
        (0.5, 2.0, -1.0),  # not clipped: too low is to be undone
        (0.5, -2.0, 1.6),  # clipped: no reward for going further down
        (1.5, -2.0, 3.0),
    ],
)
def test_clipped_surrogate_by_hand(ratio, advantage, loss):
    value, _ = clipped_surrogate(torch.tensor([ratio]), torch.tensor([advantage]), 0.2)
    assert value.item() == pytest.approx(loss)


@pytest.mark.parametrize(
    ("ratio", "advantage", "derivative"),
    [(1.5, 1.0, 0.0), (0.5, 1.0, -0.5), (0.5, -1.0, 0.0), (1.5, -1.0, 1.5), (1.1, 2.0, -2.2)],
)
def test_clipping_stops_the_gradient(ratio, advantage, derivative):
    """By ln r it is −r A, or nothing."""
    _, by_log_ratio = clipped_surrogate(torch.tensor([ratio]), torch.tensor([advantage]), 0.2)
    assert by_log_ratio.item() == pytest.approx(derivative)


def test_value_errors_by_hand():
    values, old, returns = torch.tensor([1.0, 3.0, 0.0]), torch.tensor([1.0, 1.0, 1.0]), torch.tensor([2.0, 4.0, 0.0])
    error, derivative = squared_error(values, returns, old, None)
    assert error.tolist() == [1.0, 1.0, 0.0]
    assert derivative.tolist() == [-2.0, -2.0, 0.0]
    error, derivative = squared_error(values, returns, old, 0.5)
    assert error.tolist() == [1.0, 6.25, 0.25]
    assert derivative.tolist() == [-2.0, 0.0, 0.0]  # the second and third are kept values: they do not move


def test_approximate_kl_is_positive_and_its_mean_is_the_kl():
    log_ratio = randn(1000)
    assert (approximate_kl(log_ratio) >= 0).all()
    assert approximate_kl(torch.zeros(3)).tolist() == [0.0, 0.0, 0.0]
    old, new = torch.tensor([0.2, 0.8]).double(), torch.tensor([0.5, 0.5]).double()
    expectation = (old * approximate_kl((new / old).log())).sum()
    torch.testing.assert_close(expectation, (old * (old / new).log()).sum())


TASK = torch.tensor([0, 0, 0, 2, 2, 2, 2])
ADVANTAGES = torch.tensor([1.0, 2.0, 3.0, 10.0, 30.0, 10.0, 30.0])


def test_advantages_per_task():
    step = math.sqrt(3 / 2)
    expected = [-step, 0.0, step, -1.0, 1.0, -1.0, 1.0]
    assert normalise_advantages(ADVANTAGES, TASK, 3, "task").tolist() == pytest.approx(expected, abs=1e-6)


def test_advantages_pooled():
    pooled = normalise_advantages(ADVANTAGES, TASK, 3, "pooled")
    expected = (ADVANTAGES - ADVANTAGES.mean()) / ADVANTAGES.std(correction=0)
    torch.testing.assert_close(pooled, expected)
    assert pooled[:3].mean() < -0.5  # a task of small rewards is all bad there


def test_advantages_untouched():
    assert torch.equal(normalise_advantages(ADVANTAGES, TASK, 3, "none"), ADVANTAGES)


def test_a_task_with_one_row_has_advantage_zero():
    assert normalise_advantages(torch.tensor([5.0, 1.0, 2.0]), torch.tensor([0, 1, 1]), 2, "task")[0] == 0.0


def test_explained_variance():
    returns = torch.tensor([1.0, 2.0, 3.0])
    assert explained_variance(returns, returns) == 1.0
    assert explained_variance(torch.full((3,), 7.0), returns) == pytest.approx(0.0)
    assert math.isnan(explained_variance(returns, torch.ones(3)))
