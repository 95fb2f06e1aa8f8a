"""The options of VarShare in short runs: what they change, what they refuse, and exact resume."""

import pytest
import torch
from helpers import fit
from stopping import StopAfter

from varshare_pl.errors import ConfigError
from varshare_pl.sharing import VarShare

ONE_ROLLOUT = {"total_env_steps": 128}
BOTH = {"actor", "critic"}
OPTIONS = {
    "layers": {"layers": [0, "head"]},
    "task_bias": {"task_bias": True},
    "deterministic": {"deterministic": True},
    "learned_prior": {"learned_prior": True},
    "hyperprior": {"learned_prior": True, "hyperprior": 50.0},
    "rank": {"rank": 2},
    "all at once": {"layers": "last 2", "task_bias": True, "learned_prior": True},
    "absorption": {"absorption": 0.5},
    "task_embedding": {"task_embedding": 3},
    "controller with the rest": {"noise_controller": True, "absorption": 1.0, "task_embedding": 2, "layers": "last 2"},
    "deterministic with the rest": {"layers": "last 1", "task_bias": True, "deterministic": True, "absorption": 0.1},
}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"deterministic": True, "learned_prior": True}, "learned_prior: true is not allowed with deterministic"),
        ({"deterministic": True, "initial_sigma": 0.3}, "initial_sigma: 0.3 is not allowed with deterministic"),
        ({"noise_controller": True, "deterministic": True}, "noise_controller: true is not allowed with deterministic"),
        ({"noise_controller": True, "learned_prior": True}, "noise_controller: true is not allowed with learned_prior"),
        ({"absorption": 1.5}, "absorption: 1.5 is not allowed; a number from 0 to 1 is"),
        ({"task_embedding": -1}, "task_embedding: -1 is not allowed; an integer of at least 0 is"),
        ({"hyperprior": 2.0}, "hyperprior: 2.0 is not allowed without learned_prior"),
        ({"deterministic": True, "hyperprior": 2.0}, "hyperprior: 2.0 is not allowed without learned_prior"),
    ],
)
def test_what_makes_no_sense_together_is_refused_in_one_line(options, text):
    with pytest.raises(ConfigError, match=rf"^model\.sharing\.init_args\.{text}") as caught:
        fit(ONE_ROLLOUT, sharing=VarShare(**options))
    assert "\n" not in str(caught.value)


def changed(a, b):
    """The networks of which a weight that both have differs, after two updates."""
    one, two = a.module.policy.state_dict(), b.module.policy.state_dict()
    return {name.split(".")[0] for name in one.keys() & two.keys() if not torch.equal(one[name], two[name])}


@pytest.fixture(scope="module")
def baseline():
    return fit({"total_env_steps": 256})


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_changes_both_networks(name, baseline):
    assert changed(fit({"total_env_steps": 256}, sharing=VarShare(**OPTIONS[name])), baseline) == BOTH


def test_the_hyperprior_changes_what_the_prior_learns():
    weak, strong = (fit(sharing=VarShare(learned_prior=True, hyperprior=value)) for value in (0.0, 50.0))
    assert changed(weak, strong) == BOTH


def names_of(run, ending):
    return [name for name, _ in run.module.policy.named_parameters() if name.endswith(ending)]


def test_parameters_of_each_option():
    partial = fit(ONE_ROLLOUT, sharing=VarShare(layers=["head"]))
    assert names_of(partial, ".mu") == ["actor.stack.head.mu", "critic.stack.head.mu"]
    assert len(names_of(fit(ONE_ROLLOUT, sharing=VarShare(task_bias=True)), "task_bias")) == 6
    assert names_of(fit(ONE_ROLLOUT, sharing=VarShare(deterministic=True)), "log_var") == []
    assert len(names_of(fit(ONE_ROLLOUT, sharing=VarShare(learned_prior=True)), "log_prior_std")) == 6


def test_learned_priors_are_trained_with_the_log_variances():
    run = fit(sharing=VarShare(learned_prior=True))
    fresh = VarShare(learned_prior=True)
    (optimizer,) = run.trainer.optimizers
    sizes = {group["name"]: sum(p.numel() for p in group["params"]) for group in optimizer.param_groups}
    weights = sum(layer.log_var.numel() for _, layer in run.module.policy.actor.layers())
    assert sizes["actor_log_var"] == weights + 3
    assert fresh.hyperprior == 1.0
    for *_, layer in run.module.policy.layers():
        assert layer.log_prior_std.item() != pytest.approx(torch.tensor(layer.prior_std).log().item(), abs=1e-6)


def test_without_noise_there_are_no_groups_or_metrics_of_it():
    run = fit(sharing=VarShare(deterministic=True), actor_noise="fresh")  # no warning: nothing is drawn
    (optimizer,) = run.trainer.optimizers
    assert [group["name"] for group in optimizer.param_groups] == ["actor", "critic"]
    metrics = run.records[-1].metrics
    assert metrics["loss/kl"] > 0
    assert "sharing/ratio" in metrics
    assert not {"sharing/sigma", "sharing/specialised", "diagnostics/noise_ratio_std"} & metrics.keys()


def test_the_penalty_of_the_ablation_is_scaled_like_the_kl():
    run = fit(sharing=VarShare(deterministic=True))
    policy = run.module.policy
    weights = sum(layer.theta.numel() for *_, layer in policy.layers())
    assert policy.num_variational == weights
    assert run.module.objective.kl_scale(policy) == pytest.approx(0.1 / (weights * 2))
    strong = fit(sharing=VarShare(deterministic=True), kl_weight=100.0)
    norms = [sum(layer.mu.norm().item() for *_, layer in r.module.policy.layers()) for r in (run, strong)]
    assert norms[1] < norms[0]


@pytest.mark.parametrize("name", [*OPTIONS, "kl_schedule"])
def test_resumed_equals_uninterrupted(name, tmp_path):
    data, path = {"total_env_steps": 4 * 128}, tmp_path / "stopped.ckpt"

    def run(callbacks=(), **more):
        sharing = VarShare(**OPTIONS.get(name, {}))
        return fit(data, callbacks, sharing=sharing, kl_schedule="warmup_ramp", **more)

    whole = run()
    run([StopAfter(2, path)])
    rest = run(ckpt_path=path)
    assert len(rest.records) == 2
    torch.testing.assert_close(
        dict(rest.module.state_dict()), dict(whole.module.state_dict()), rtol=0, atol=0, equal_nan=True
    )
