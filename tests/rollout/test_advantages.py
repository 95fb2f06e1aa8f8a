"""Advantages by hand, against a slow reference, and in an env whose value is known; what is done with them."""

import math

import numpy as np
import pytest
import torch
from helpers import generator, randn

from varshare_pl.rollout.advantages import explained_variance, gae, normalise_advantages

NO = torch.zeros(3, 1, dtype=torch.bool)


def column(*values):
    return torch.tensor(values, dtype=torch.float64).unsqueeze(1)


def at(t):
    flags = NO.clone()
    flags[t] = True
    return flags


REWARDS, VALUES, NEXT = column(1, 2, 3), column(10, 20, 30), column(20, 30, 40)
GAMMA, LAMBDA = 0.5, 0.8
# δ without an end: 1 + 10 − 10, 2 + 15 − 20, 3 + 20 − 30.


def advantages(terminated, truncated, next_values=NEXT):
    return gae(REWARDS, VALUES, next_values, terminated, truncated, GAMMA, LAMBDA).flatten().tolist()


def test_no_end():
    assert advantages(NO, NO) == pytest.approx([1 + 0.4 * (-3 + 0.4 * -7), -3 + 0.4 * -7, -7])


def test_termination_masks_the_bootstrap_and_cuts_the_trace():
    assert advantages(at(1), NO) == pytest.approx([1 + 0.4 * -18, 2 - 20, -7])


def test_truncation_bootstraps_and_cuts_the_trace():
    """V of the final observation is 50: the episode goes on, its reward after the cut is only not seen."""
    cut = column(20, 50, 40)
    assert advantages(NO, at(1), cut) == pytest.approx([1 + 0.4 * 7, 2 + 25 - 20, -7])


def test_terminated_and_truncated_at_once_is_terminated():
    assert advantages(at(1), at(1)) == advantages(at(1), NO)


def test_the_end_of_the_rollout_bootstraps():
    assert advantages(at(2), NO)[2] == pytest.approx(3 - 30)
    assert advantages(NO, NO)[2] == pytest.approx(3 + 20 - 30)


def reference(rewards, values, next_values, terminated, truncated, gamma, lam):
    """The definition as a sum: A_t = Σ_k (γ λ)^k δ_{t+k} up to the end of the episode."""
    steps, envs = rewards.shape
    result = torch.zeros(steps, envs, dtype=torch.float64)
    for env in range(envs):
        for t in range(steps):
            total, factor = 0.0, 1.0
            for k in range(t, steps):
                target = rewards[k, env].item()
                if not terminated[k, env]:
                    target += gamma * next_values[k, env].item()
                total += factor * (target - values[k, env].item())
                if terminated[k, env] or truncated[k, env]:
                    break
                factor *= gamma * lam
            result[t, env] = total
    return result


@pytest.mark.parametrize(("gamma", "lam"), [(0.99, 0.95), (1.0, 1.0), (0.9, 0.0), (0.0, 0.5)])
def test_against_the_reference(gamma, lam):
    g = generator(1)
    rewards, values, next_values = (torch.randn(40, 6, generator=g, dtype=torch.float64) for _ in range(3))
    terminated, truncated = (torch.rand(40, 6, generator=g) < 0.1 for _ in range(2))
    args = (rewards, values, next_values, terminated, truncated, gamma, lam)
    torch.testing.assert_close(gae(*args), reference(*args))


@pytest.mark.parametrize("lam", [0.0, 0.5, 0.95, 1.0])
def test_known_value(lam):
    """Reward 1 for ever, cut by time limits: V = 1/(1 − γ) leaves no advantage, and V = 0 leaves exactly V with λ = 1.

    A truncation treated as a termination would see the value end at each cut.
    """
    gamma, steps = 0.9, 200
    shape = (steps, 2)
    rewards, truncated = torch.ones(shape).double(), torch.zeros(shape).bool()
    truncated[9::10] = True
    never = torch.zeros(shape).bool()
    value = torch.full(shape, 1 / (1 - gamma)).double()
    exact = gae(rewards, value, value, never, truncated, gamma, lam)
    torch.testing.assert_close(exact, torch.zeros(shape).double())
    zeros = torch.zeros(shape).double()
    learned = gae(rewards, zeros, zeros, never, never, gamma, 1.0)
    assert learned[0, 0].item() == pytest.approx(1 / (1 - gamma))


def test_float32_stays_float32_and_inputs_stay():
    inputs = [torch.rand(5, 2) for _ in range(3)]
    copies = [t.clone() for t in inputs]
    flags = torch.zeros(5, 2, dtype=torch.bool)
    assert gae(*inputs, flags, flags, 0.9, 0.9).dtype == torch.float32
    assert all(torch.equal(a, b) for a, b in zip(inputs, copies, strict=True))


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


CONSTANTS = [0.1, 3.3, 1e6, -0.7, 1e-12, 0.0]


@pytest.mark.parametrize("rows", [3, 7, 1000, 5120])
def test_advantages_that_are_all_equal_are_exactly_0(rows):
    """Their mean is rounded, and a deviation of nothing but rounding must not be blown up to 1."""
    constants = torch.tensor(CONSTANTS).repeat_interleave(rows)
    task = torch.arange(len(CONSTANTS)).repeat_interleave(rows)
    differing = 5.0 + randn(rows, dtype=torch.float32)
    advantages = torch.cat([constants, differing])
    everything = torch.cat([task, torch.full((rows,), len(CONSTANTS))])
    order = torch.randperm(len(advantages), generator=generator(1))
    found = normalise_advantages(advantages[order], everything[order], len(CONSTANTS) + 1, "task")
    assert not found[everything[order] < len(CONSTANTS)].any()
    expected = (differing - differing.mean()) / differing.std(correction=0)
    torch.testing.assert_close(found[order.argsort()][-rows:], expected, rtol=1e-4, atol=1e-5)
    for value in CONSTANTS:
        pooled = normalise_advantages(torch.full((rows,), value), task[:rows], 1, "pooled")
        assert not pooled.any()


@pytest.mark.parametrize("rounding", [1, 2])
def test_advantages_that_differ_by_rounding_alone_are_0(rounding):
    """As those of a reward that never changes do: sums in another order."""
    value = np.float32(3.3)
    values = [value]
    for _ in range(rounding):
        values.append(np.nextafter(values[-1], np.float32(np.inf)))
    advantages = torch.tensor(np.array(values * 50))
    assert len(advantages.unique()) == rounding + 1
    assert not normalise_advantages(advantages, torch.zeros(len(advantages), dtype=torch.int64), 1, "task").any()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_advantages_that_are_not_finite_do_not_pass_for_equal_ones(bad):
    """Their gradient is to be refused, not to be 0; other tasks keep theirs."""
    advantages = ADVANTAGES.clone()
    advantages[1] = bad
    found = normalise_advantages(advantages, TASK, 3, "task")
    assert not found[:3].isfinite().all()
    assert torch.equal(found[3:], normalise_advantages(ADVANTAGES, TASK, 3, "task")[3:])


@pytest.mark.parametrize(("mean", "size"), [(0.0, 1e-6), (0.1, 1e-5), (1e6, 4.0), (-3e4, 0.1), (1e8, 1e3)])
def test_small_differences_that_are_real_are_normalised(mean, size):
    """Against NumPy in 64 bits, of the numbers as float32 holds them; over a huge mean too."""
    advantages = (mean + size * randn(2000)).float()
    exact = advantages.numpy().astype(np.float64)
    expected = (exact - exact.mean()) / exact.std()
    found = normalise_advantages(advantages, torch.zeros(2000, dtype=torch.int64), 1, "task")
    assert found.dtype == torch.float32
    tolerance = 1e-8 / exact.std()  # what the denominator adds
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6 + 2 * tolerance, atol=1e-6)


def test_explained_variance():
    returns, task = torch.tensor([1.0, 2.0, 3.0]), torch.zeros(3, dtype=torch.int64)
    assert explained_variance(returns, returns, task, 1) == 1.0
    assert explained_variance(torch.full((3,), 7.0), returns, task, 1) == pytest.approx(0.0)
    assert explained_variance(-returns, returns, task, 1) == pytest.approx(-3.0)
    assert math.isnan(explained_variance(returns, torch.ones(3), task, 1))


def test_explained_variance_is_the_mean_over_tasks():
    """By NumPy; tasks without rows, or whose returns are all equal, do not count."""
    task = torch.tensor([0] * 10 + [1] * 40 + [3] * 5 + [4])
    returns = randn(56) * 10.0**task
    returns[50:55] = 2.0
    values = returns + randn(56, seed=1) * 10.0**task / 2
    of_tasks = []
    for m in (0, 1):
        r, v = returns[task == m].numpy(), values[task == m].numpy()
        of_tasks.append(1 - np.var(r - v) / np.var(r))
    assert explained_variance(values.float(), returns.float(), task, 5) == pytest.approx(np.mean(of_tasks), rel=1e-5)


def test_a_critic_that_knows_each_tasks_mean_alone_explains_nothing():
    """Over all rows together it would explain nearly everything."""
    task = torch.arange(1000) % 2
    returns = 100.0 * task + randn(1000)
    means = torch.stack([returns[task == m].mean() for m in (0, 1)])[task]
    assert 1 - (returns - means).var() / returns.var() > 0.999
    assert abs(explained_variance(means, returns, task, 2)) < 1e-6
