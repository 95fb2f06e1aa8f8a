"""The policy that acts: what is not seen in whole rollouts."""

import pytest
import torch
from helpers import make_policy, perturb, randn

from varshare_pl.learning.acting import ActingPolicy
from varshare_pl.learning.weight_noise import make_actor_noise
from varshare_pl.networks.groups import TaskGroups
from varshare_pl.sharing import VarShare

MODES = ["rollout", "stored", "mean", "fresh"]


def make(mode, **options):
    policy = make_policy("ComplexCartPole", VarShare(prior_scale=1.0), **options)
    perturb(policy, 0.2)
    return policy, ActingPolicy(policy, make_actor_noise(mode, policy.actor, 1), 1, 0)


def groups_of(*tasks):
    return TaskGroups.from_rows(torch.tensor(tasks), 5)


@pytest.mark.parametrize("options", [{}, {"normalize_observations": "task"}], ids=str)
@pytest.mark.parametrize("mode", ["rollout", "stored", "mean"])
def test_as_a_function_of_tensors_it_does_the_same(mode, options):
    """What the compiler is given: the weights of the moment, not those that it was traced with."""
    policy, acting = make(mode, **options)
    if options:
        policy.observation_moments.update(randn(20, 4) * 3 + 1, torch.arange(20) % 5)
    groups, obs, noise = groups_of(0, 3, 3, 1), randn(4, 4).float(), acting.draw_noise(1, 4)[0]
    expected = acting.act(obs, groups, noise)
    old = [tensor.clone() for tensor in acting.tensors(groups)]
    found = acting.act_with(acting.tensors(groups), obs, groups, noise)
    torch.testing.assert_close(found, expected)
    perturb(policy, 0.5, seed=3)
    later = ActingPolicy(policy, make_actor_noise(mode, policy.actor, 1), 1, 0)
    _, params = later.act_with(old, obs, groups, noise)
    torch.testing.assert_close(params, expected[1])
    assert not torch.allclose(later.act_with(later.tensors(groups), obs, groups, noise)[1], expected[1])


@pytest.mark.parametrize("mode", MODES)
def test_weights_stand_still_but_for_fresh_noise(mode):
    """The same observations with the same noise, and groups that come and go."""
    _, acting = make(mode)
    obs, noise = randn(3, 4).float(), acting.draw_noise(1, 3)[0]
    first = acting.act(obs, groups_of(0, 1, 1), noise)[1]
    other = acting.act(obs, groups_of(4, 4, 2), noise)[1]
    again = acting.act(obs, groups_of(0, 1, 1), noise)[1]
    assert not torch.allclose(first, other)
    assert torch.equal(first, again) == (mode != "fresh")
    assert acting.compilable == (mode != "fresh")


@pytest.mark.parametrize("mode", MODES)
def test_rows_do_not_hang_on_who_else_acts(mode):
    _, acting = make(mode)
    _, alone = make(mode)
    obs, noise = randn(3, 4).float(), acting.draw_noise(1, 3)[0]
    whole = acting.act(obs, groups_of(2, 0, 2), noise)
    part = alone.act(obs[1:], groups_of(0, 2), noise[1:])
    assert torch.equal(whole[0][1:], part[0])
    torch.testing.assert_close(whole[1][1:], part[1])
