"""The KL's weight over a run."""

from itertools import pairwise

import pytest
import torch
from helpers import fit

from varshare_pl.learning.schedules import warmup_ramp
from varshare_pl.ppo.losses import kl_scale
from varshare_pl.sharing import Shared

ROLLOUTS = 10
LONG = {"total_env_steps": ROLLOUTS * 128}


def test_warm_up_hold_and_ramp():
    by_hand = {0.0: 0.0, 0.05: 0.5, 0.1: 1.0, 0.5: 1.0, 0.8: 1.0, 0.9: 1.5, 1.0: 2.0}
    assert [warmup_ramp(fraction) for fraction in by_hand] == pytest.approx(list(by_hand.values()))
    values = [warmup_ramp(k / 1000) for k in range(1001)]
    assert values == sorted(values)  # it never falls
    assert max(b - a for a, b in pairwise(values)) < 0.0101  # and never jumps


def kl_shares(run):
    """``loss/kl`` of each rollout over what the KL after it would give at a constant weight."""
    policy, metrics = run.module.policy, [record.metrics for record in run.records]
    constant = kl_scale(run.module.options.kl_weight, policy) * policy.num_tasks
    return [m["loss/kl"] / (constant * m["kl/posterior"]) for m in metrics]


def test_the_logged_term_has_the_weight_of_its_rollout():
    # One step of next to no length an update: the KL before it is the KL after it.
    still = {"update_epochs": 1, "minibatch_size": 128, "lr_actor": 1e-9, "lr_critic": 1e-9}
    run = fit(LONG, kl_schedule="warmup_ramp", **still)
    expected = [warmup_ramp(k / ROLLOUTS) for k in range(ROLLOUTS)]
    assert kl_shares(run) == pytest.approx(expected, rel=1e-4)
    assert kl_shares(fit(LONG, **still)) == pytest.approx([1.0] * ROLLOUTS, rel=1e-4)
    for record in run.records:
        m = record.metrics
        total = m["loss/policy"] + 0.5 * m["loss/value"] - 0.01 * m["loss/entropy"] + m["loss/kl"]
        assert m["loss/total"] == pytest.approx(total, rel=1e-5)


def test_the_gradient_has_the_weight_of_its_rollout():
    """The first rollout of a warm-up trains as with weight 0."""
    one = {"total_env_steps": 128}
    ramp, none, constant = fit(one, kl_schedule="warmup_ramp"), fit(one, kl_weight=0.0), fit(one)
    states = [run.module.policy.state_dict() for run in (ramp, none, constant)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["actor.stack.head.log_var"], states[2]["actor.stack.head.log_var"])


def test_a_method_without_kl_takes_any_schedule():
    plain, ramp = (fit(sharing=Shared(), kl_schedule=s).module.policy.state_dict() for s in ("constant", "warmup_ramp"))
    assert all(torch.equal(plain[name], ramp[name]) for name in plain)
