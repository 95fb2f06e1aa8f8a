"""Widths matched to VarShare's number of parameters, counted again from real networks."""

import pytest
import torch
from helpers import ALL_METHODS, make_policy

from varshare_pl.envs import get_suite
from varshare_pl.errors import ConfigError
from varshare_pl.networks.options import ActionOptions, NetworkOptions
from varshare_pl.networks.size import network_sizes, total_size
from varshare_pl.sharing import Independent, Shared, VarShare
from varshare_pl.sharing.care import Care
from varshare_pl.sharing.matching import matched_hidden_sizes
from varshare_pl.sharing.moore import MOORE

SUITES = {1: "CartPole", 2: "MirroredCartPole", 5: "ComplexCartPole"}


def matched(spec, sharing, hidden_sizes, match, actions=None):
    return matched_hidden_sizes(spec, sharing, NetworkOptions(hidden_sizes=hidden_sizes), match, actions)


def spec_of(tasks):
    return get_suite(SUITES[tasks]).env_spec()


def size(spec, sharing, widths):
    return total_size(network_sizes(make_policy(spec, sharing, hidden_sizes=widths), spec.obs_size).values())


def by_hand(tasks, match):
    """Parameters of VarShare's two networks of 2 × 64 units for 4 numbers, 2 actions and a value."""
    weights, biases = 2 * (4 * 64 + 64 * 64) + 64 * 3, 4 * 64 + 3
    return (2 if match == "active" else 1 + 2 * tasks) * weights + biases


@pytest.mark.parametrize("match", ["active", "stored"])
@pytest.mark.parametrize("tasks", SUITES)
@pytest.mark.parametrize("method", ALL_METHODS)
def test_every_method_comes_within_two_percent(method, tasks, match):
    """Or is refused, because it is larger however narrow its hidden layers are."""
    spec, sharing = spec_of(tasks), ALL_METHODS[method]()
    try:
        widths = matched(spec, sharing, (64, 64), match)
    except ConfigError as error:
        refusal = str(error)
    else:
        assert getattr(size(spec, sharing, widths), match) == pytest.approx(by_hand(tasks, match), rel=0.02)
        assert method != "varshare" or widths == (64, 64)
        return
    smallest = getattr(size(spec, sharing, (1, 1)), match)
    assert smallest > 1.02 * by_hand(tasks, match)
    assert refusal.startswith(f"model.match_parameters: {match} is not allowed ")
    assert f"at the closest {smallest:,}, with [1, 1]; " in refusal


@pytest.mark.parametrize("log_std", ["task", "shared", "network"])
@pytest.mark.parametrize("match", ["active", "stored"])
def test_what_continuous_actions_need_is_counted(match, log_std):
    spec, actions = get_suite("PendulumFamily").env_spec(), ActionOptions(log_std=log_std)

    def count(sharing, widths):
        policy = make_policy(spec, sharing, hidden_sizes=widths, log_std=log_std)
        return getattr(total_size(network_sizes(policy, spec.obs_size).values()), match)

    outputs, of_std = (2, 0) if log_std == "network" else (1, 6 if (match, log_std) == ("stored", "task") else 1)
    weights, biases = 2 * (3 * 16 + 16 * 16) + 16 * (outputs + 1), 4 * 16 + outputs + 1
    assert count(VarShare(), (16, 16)) == (2 if match == "active" else 13) * weights + biases + of_std
    widths = matched(spec, Shared(), (16, 16), match, actions)
    assert count(Shared(), widths) == pytest.approx(count(VarShare(), (16, 16)), rel=0.02)


def test_encoders_with_widths_of_their_own_may_be_too_large():
    """CARE's stay as they are when the hidden layers change."""
    with pytest.raises(ConfigError, match=r"^model.match_parameters: stored is not allowed .*\[1, 1\]"):
        matched(spec_of(1), Care(), (64, 64), "stored")
    assert matched(spec_of(5), Care(), (64, 64), "stored") != (64, 64)


def test_unequal_widths_keep_their_proportion():
    first, second, third = matched(spec_of(5), Shared(), (32, 64, 48), "stored")
    assert second > 100
    assert first == pytest.approx(second / 2, abs=1)
    assert third == pytest.approx(second * 3 / 4, abs=1)


def test_single_units_where_one_factor_is_too_coarse():
    spec, target = spec_of(5), size(spec_of(5), VarShare(), (16, 16)).active
    counts = {width: size(spec, Shared(), (width, width)).active for width in (23, 24)}
    assert all(abs(count / target - 1) > 0.02 for count in counts.values())
    widths = matched(spec, Shared(), (16, 16), "active")
    assert widths in ((23, 24), (24, 23))
    assert size(spec, Shared(), widths).active == pytest.approx(target, rel=0.02)


def test_the_method_s_options_count():
    small, large = (VarShare(layers=layers) for layers in ([-1], "all"))
    assert matched(spec_of(5), large, (32,), "stored") == (32,)
    assert matched(spec_of(5), small, (32,), "stored")[0] > 32


def test_widths_that_a_method_refuses_are_not_taken():
    with pytest.raises(ConfigError, match=r"^model.match_parameters: active .* with \[8\]; null or other"):
        matched(spec_of(5), MOORE(num_experts=8), (10,), "active")


@pytest.mark.parametrize("hidden_sizes", [(1,), (2, 1)])
def test_tiny_networks_are_refused_in_one_line(hidden_sizes):
    with pytest.raises(ConfigError, match=r"null or other model\.hidden_sizes are allowed") as error:
        matched(spec_of(5), Independent(), hidden_sizes, "stored")
    assert "\n" not in str(error.value)


def test_off_keeps_the_widths_and_nothing_is_drawn():
    before = torch.get_rng_state()
    assert matched(spec_of(5), Shared(), [9, 7], None) == (9, 7)
    matched(spec_of(5), Shared(), (16, 16), "active")
    assert torch.equal(torch.get_rng_state(), before)
