"""Advantages by hand, against a slow reference, and in an env whose value is known."""

import pytest
import torch
from helpers import generator
from varshare_pl.rollout.gae import gae

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
