"""VarShare's options and variants in short runs: what they change, what they refuse, and exact resume."""

from functools import partial

import pytest
import torch
from helpers import fit
from stopping import StopAfter

from varshare_pl.errors import ConfigError
from varshare_pl.ppo.losses import kl_scale
from varshare_pl.sharing import VarShare
from varshare_pl.sharing.varshare import (
    VarShareControlledPrior,
    VarShareDeterministic,
    VarShareLearnedPrior,
    VarShareLowRank,
)

ONE_ROLLOUT = {"total_env_steps": 128}
BOTH = {"actor", "critic"}
METHODS = {
    "layers": partial(VarShare, layers=[0, "head"]),
    "task_bias": partial(VarShare, task_bias=True),
    "absorption": partial(VarShare, absorption=0.5),
    "task_embedding": partial(VarShare, task_embedding=3),
    "deterministic": VarShareDeterministic,
    "deterministic with options": partial(VarShareDeterministic, layers="last 1", task_bias=True, absorption=0.1),
    "low rank": partial(VarShareLowRank, rank=2),
    "low rank with options": partial(VarShareLowRank, rank=3, layers="last 2", task_bias=True, task_embedding=2),
    "learned prior": VarShareLearnedPrior,
    "hyperprior": partial(VarShareLearnedPrior, hyperprior=50.0),
    "learned prior with options": partial(VarShareLearnedPrior, layers="last 2", task_bias=True),
    "controlled prior": partial(VarShareControlledPrior, absorption=1.0, task_embedding=2, layers="last 2"),
}


@pytest.mark.parametrize(
    ("method", "options", "text"),
    [
        (VarShare, {"absorption": 1.5}, "absorption: 1.5 is not allowed; a number from 0 to 1 is"),
        (VarShare, {"task_embedding": -1}, "task_embedding: -1 is not allowed; an integer of at least 0 is"),
        (VarShareLowRank, {"task_embedding": -1}, "task_embedding: -1 is not allowed; an integer of at least 0 is"),
        (VarShareLearnedPrior, {"hyperprior": -1.0}, "hyperprior: -1.0 is not allowed; a number of at least 0 is"),
    ],
)
def test_a_bad_value_is_refused_in_one_line(method, options, text):
    with pytest.raises(ConfigError, match=rf"^model\.sharing\.init_args\.{text}") as caught:
        fit(ONE_ROLLOUT, sharing=method(**options))
    assert "\n" not in str(caught.value)


def changed(a, b):
    """The networks of which a weight that both have differs, after two updates."""
    one, two = a.module.policy.state_dict(), b.module.policy.state_dict()
    return {name.split(".")[0] for name in one.keys() & two.keys() if not torch.equal(one[name], two[name])}


@pytest.fixture(scope="module")
def baseline():
    return fit({"total_env_steps": 256})


@pytest.mark.parametrize("name", METHODS)
def test_every_option_changes_both_networks(name, baseline):
    assert changed(fit({"total_env_steps": 256}, sharing=METHODS[name]()), baseline) == BOTH


def test_the_hyperprior_changes_what_the_prior_learns():
    weak, strong = (fit(sharing=VarShareLearnedPrior(hyperprior=value)) for value in (0.0, 50.0))
    assert changed(weak, strong) == BOTH


def names_of(run, ending):
    return [name for name, _ in run.module.policy.named_parameters() if name.endswith(ending)]


def test_parameters_of_each_option():
    partial = fit(ONE_ROLLOUT, sharing=VarShare(layers=["head"]))
    assert names_of(partial, ".mu") == ["actor.stack.head.mu", "critic.stack.head.mu"]
    assert len(names_of(fit(ONE_ROLLOUT, sharing=VarShare(task_bias=True)), "task_bias")) == 6
    assert names_of(fit(ONE_ROLLOUT, sharing=VarShareDeterministic()), "log_var") == []
    assert len(names_of(fit(ONE_ROLLOUT, sharing=VarShareLearnedPrior()), "log_prior_std")) == 6


def test_learned_priors_are_trained_with_the_log_variances():
    run = fit(sharing=VarShareLearnedPrior())
    (optimizer,) = run.trainer.optimizers
    sizes = {group["name"]: sum(p.numel() for p in group["params"]) for group in optimizer.param_groups}
    weights = sum(layer.log_var.numel() for _, layer in run.module.policy.actor.layers())
    assert sizes["actor_log_var"] == weights + 3
    for *_, layer in run.module.policy.layers():
        assert layer.log_prior_std.item() != pytest.approx(torch.tensor(layer.prior_std).log().item(), abs=1e-6)


def test_without_noise_there_are_no_groups_or_metrics_of_it():
    run = fit(sharing=VarShareDeterministic(), actor_noise="fresh")  # no warning: nothing is drawn
    (optimizer,) = run.trainer.optimizers
    assert [group["name"] for group in optimizer.param_groups] == ["actor", "critic"]
    metrics = run.records[-1].metrics
    assert metrics["loss/kl"] > 0
    assert "sharing/ratio" in metrics
    assert not {"sharing/sigma", "sharing/specialised", "diagnostics/noise_ratio_std"} & metrics.keys()


def test_the_penalty_of_the_ablation_is_scaled_like_the_kl():
    run = fit(sharing=VarShareDeterministic())
    policy = run.module.policy
    weights = sum(layer.theta.numel() for *_, layer in policy.layers())
    assert policy.num_variational == weights
    assert kl_scale(0.1, policy) == pytest.approx(0.1 / (weights * 2))
    strong = fit(sharing=VarShareDeterministic(), kl_weight=100.0)
    norms = [sum(layer.mu.norm().item() for *_, layer in r.module.policy.layers()) for r in (run, strong)]
    assert norms[1] < norms[0]


@pytest.mark.parametrize("name", ["plain", *METHODS])
def test_resumed_equals_uninterrupted(name, tmp_path):
    data, path = {"total_env_steps": 4 * 128}, tmp_path / "stopped.ckpt"

    def run(callbacks=(), **more):
        sharing = METHODS.get(name, VarShare)()
        return fit(data, callbacks, sharing=sharing, kl_schedule="warmup_ramp", **more)

    whole = run()
    run([StopAfter(2, path)])
    rest = run(ckpt_path=path)
    assert len(rest.records) == 2
    torch.testing.assert_close(
        dict(rest.module.state_dict()), dict(whole.module.state_dict()), rtol=0, atol=0, equal_nan=True
    )
