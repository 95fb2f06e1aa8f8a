"""Widths matched to VarShare's number of parameters, counted again from real networks."""

import pytest
import torch
from helpers import make_spec

from varshare_pl.envs import get_suite
from varshare_pl.errors import ConfigError
from varshare_pl.networks.actor_critic import ActorCritic
from varshare_pl.networks.size import network_sizes, total_size
from varshare_pl.sharing import Independent, Shared, VarShare, method_names
from varshare_pl.sharing.matching import matched_hidden_sizes

METHODS = {name: cls for name, cls in method_names().items() if cls.__module__.startswith("varshare_pl.")}
SUITES = {1: "CartPole", 2: "MirroredCartPole", 5: "ComplexCartPole"}
# CARE's encoders have widths of their own and are larger than these networks of VarShare.
TOO_LARGE = {("care", 1, "active"), ("care", 1, "stored"), ("care", 2, "active"), ("care", 5, "active")}


def spec_of(tasks):
    return make_spec(get_suite(SUITES[tasks]), rollout_rows=1)


def size(spec, sharing, widths):
    return total_size(network_sizes(ActorCritic(spec, sharing, widths), spec.obs_size).values())


def by_hand(tasks, match):
    """Parameters of VarShare's two networks of 2 × 64 units for 4 numbers, 2 actions and a value."""
    weights, biases = 2 * (4 * 64 + 64 * 64) + 64 * 3, 4 * 64 + 3
    return (2 if match == "active" else 1 + 2 * tasks) * weights + biases


@pytest.mark.parametrize("match", ["active", "stored"])
@pytest.mark.parametrize("tasks", SUITES)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_comes_within_two_percent(method, tasks, match):
    spec, sharing = spec_of(tasks), METHODS[method]()
    if (method, tasks, match) in TOO_LARGE:
        with pytest.raises(ConfigError, match=rf"^model.match_parameters: {match} is not allowed .*\[1, 1\]"):
            matched_hidden_sizes(spec, sharing, (64, 64), match)
        return
    widths = matched_hidden_sizes(spec, sharing, (64, 64), match)
    assert getattr(size(spec, sharing, widths), match) == pytest.approx(by_hand(tasks, match), rel=0.02)
    if method == "varshare":
        assert widths == (64, 64)


def test_unequal_widths_keep_their_proportion():
    first, second, third = matched_hidden_sizes(spec_of(5), Shared(), (32, 64, 48), "stored")
    assert second > 100
    assert first == pytest.approx(second / 2, abs=1)
    assert third == pytest.approx(second * 3 / 4, abs=1)


def test_single_units_where_one_factor_is_too_coarse():
    spec, target = spec_of(5), size(spec_of(5), VarShare(), (16, 16)).active
    counts = {width: size(spec, Shared(), (width, width)).active for width in (23, 24)}
    assert all(abs(count / target - 1) > 0.02 for count in counts.values())
    widths = matched_hidden_sizes(spec, Shared(), (16, 16), "active")
    assert widths in ((23, 24), (24, 23))
    assert size(spec, Shared(), widths).active == pytest.approx(target, rel=0.02)


def test_the_method_s_options_count():
    small, large = (VarShare(layers=layers) for layers in ([-1], "all"))
    assert matched_hidden_sizes(spec_of(5), large, (32,), "stored") == (32,)
    assert matched_hidden_sizes(spec_of(5), small, (32,), "stored")[0] > 32


def test_widths_that_a_method_refuses_are_not_taken():
    moore = METHODS["moore"]
    with pytest.raises(ConfigError, match=r"^model.match_parameters: active .* with \[8\]; null or other"):
        matched_hidden_sizes(spec_of(5), moore(num_experts=8), (10,), "active")


@pytest.mark.parametrize("hidden_sizes", [(1,), (2, 1)])
def test_tiny_networks_are_refused_in_one_line(hidden_sizes):
    with pytest.raises(ConfigError, match=r"null or other model\.hidden_sizes are allowed") as error:
        matched_hidden_sizes(spec_of(5), Independent(), hidden_sizes, "stored")
    assert "\n" not in str(error.value)


def test_off_keeps_the_widths_and_nothing_is_drawn():
    before = torch.get_rng_state()
    assert matched_hidden_sizes(spec_of(5), Shared(), [9, 7], None) == (9, 7)
    matched_hidden_sizes(spec_of(5), Shared(), (16, 16), "active")
    assert torch.equal(torch.get_rng_state(), before)
