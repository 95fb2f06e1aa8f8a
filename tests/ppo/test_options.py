"""Every option of PPOModule changes what it should, and nothing where it should not."""

import dataclasses

import pytest
import torch
from helpers import fit
from reach import parts

from varshare_pl.combiners import combiner_names
from varshare_pl.envs import get_suite
from varshare_pl.errors import ConfigError
from varshare_pl.ppo.module import PPOModule
from varshare_pl.ppo.options import Options
from varshare_pl.sharing import Independent, Shared, VarShare
from varshare_pl.types import RolloutPlan

BOTH, ACTOR, CRITIC = {"actor", "critic"}, {"actor"}, {"critic"}
ONE_ROLLOUT = {"total_env_steps": 128}

# Option: another value, and the networks whose weights it changes in the first update.
WEIGHTS = {
    "activation": ("relu", BOTH),
    "hidden_gain": (0.5, BOTH),
    "actor_head_gain": (1.0, BOTH),  # other actions, so other rewards for the critic
    "critic_head_gain": (0.1, BOTH),
    "actor_noise": ("mean", ACTOR),
    "critic_noise": ("mean", CRITIC),
    "kl_weight": (50.0, BOTH),
    "kl_schedule": ("warmup_ramp", BOTH),
    "gamma": (0.5, BOTH),
    "gae_lambda": (0.5, BOTH),
    "clip_range": (0.001, ACTOR),
    "value_clip_range": (0.001, CRITIC),
    "entropy_coef": (1.0, ACTOR),
    "value_coef": (0.001, CRITIC),
    "advantage_norm": ("none", ACTOR),
    "update_epochs": (1, BOTH),
    "minibatch_size": (32, BOTH),
    "lr_actor": (1e-3, ACTOR),
    "lr_critic": (1e-3, CRITIC),
    "lr_log_var": (1.0, BOTH),
    "adam_eps": (1e-1, BOTH),
    "adam_eps_log_var": (1e-3, BOTH),
    "max_grad_norm": (1e-4, BOTH),
    "target_kl": (1e-9, BOTH),
    "seed": (2, BOTH),
}
# The same for continuous actions, and other options that it needs to have an effect.
CONTINUOUS = {
    "log_std": ("network", {}),
    "log_std_init": (-1.0, {}),
    "log_std_min": (0.5, {"log_std": "network", "log_std_init": 0.5}),
    "log_std_max": (0.5, {"log_std": "network", "log_std_init": 0.5}),
    "action_bounds": ("tanh", {}),
    "lr_log_std": (0.5, {"update_epochs": 2}),
}
# Where other actions may or may not follow, and with them other rewards for the critic.
AT_LEAST = {"actor_noise"}
# Options with a test of their own below; compile has a folder.
OTHERS = {"hidden_sizes", "match_parameters", "anneal_lr", "diagnostics_every", "compile"}
OTHERS |= {"normalize_observations", "normalize_returns", "popart", "normalize_rewards"}  # networks get other names
OTHERS |= {"cosine_every", "encoder"}  # the latter has its effect on images only, which are tested elsewhere
OTHERS |= {"num_minibatches"}  # in place of minibatch_size; its tests are those of the command line
SPEC = get_suite("MirroredCartPole").env_spec()


def test_no_option_is_without_a_test():
    assert {field.name for field in dataclasses.fields(Options)} == set(WEIGHTS) | set(CONTINUOUS) | OTHERS


def changed(a, b):
    """The networks whose weights differ in any bit."""
    state_a, state_b = (dict(run.module.policy.named_parameters()) for run in (a, b))
    both = state_a.keys() & state_b.keys()
    return {name.split(".")[0] for name in both if not torch.equal(state_a[name], state_b[name])}


@pytest.fixture(scope="module")
def baseline():
    return fit(ONE_ROLLOUT)


def test_the_same_options_give_the_same_weights(baseline):
    assert changed(fit(ONE_ROLLOUT), baseline) == set()


@pytest.mark.parametrize("option", WEIGHTS)
def test_option_changes_its_networks(baseline, option):
    value, networks = WEIGHTS[option]
    found = changed(fit(ONE_ROLLOUT, **{option: value}), baseline)
    assert found >= networks if option in AT_LEAST else found == networks


@pytest.mark.parametrize("option", CONTINUOUS)
def test_option_of_continuous_actions_changes_the_actor(option):
    value, needed = CONTINUOUS[option]
    suite, own = parts("gaussian")
    data = ONE_ROLLOUT | {"suite": suite}
    runs = [fit(data, **{**own, **needed, option: given}) for given in (getattr(Options(**needed), option), value)]
    assert "actor" in changed(*runs)


def test_discrete_actions_have_no_such_options(baseline):
    options = {"log_std": "network", "log_std_init": 1.0, "action_bounds": "tanh", "lr_log_std": 1.0}
    assert changed(fit(ONE_ROLLOUT, **options), baseline) == set()


def test_pooled_advantages_differ_from_both_others(baseline):
    pooled = fit(ONE_ROLLOUT, advantage_norm="pooled")
    assert changed(pooled, baseline) == ACTOR
    assert changed(pooled, fit(ONE_ROLLOUT, advantage_norm="none")) == ACTOR


def test_noise_of_the_critics_weights_differs_from_both_others(baseline):
    weights = fit(ONE_ROLLOUT, critic_noise="weights")
    assert changed(weights, baseline) == CRITIC
    assert changed(weights, fit(ONE_ROLLOUT, critic_noise="mean")) == CRITIC


def test_stored_noise_of_the_actor_differs_from_both_others(baseline):
    stored = fit(ONE_ROLLOUT, actor_noise="stored")
    assert changed(stored, baseline) >= ACTOR
    assert changed(stored, fit(ONE_ROLLOUT, actor_noise="mean")) >= ACTOR


@pytest.mark.parametrize("critic_noise", ["weights", "mean"])
def test_noise_of_the_critic_is_nothing_to_a_method_without_noise(critic_noise):
    plain = fit(ONE_ROLLOUT, sharing=Shared())
    assert changed(fit(ONE_ROLLOUT, sharing=Shared(), critic_noise=critic_noise), plain) == set()


def test_no_clipping_differs_from_clipping():
    # Adam hardly sees the scale of a gradient, but it sees a scale that changes.
    assert changed(fit(ONE_ROLLOUT, max_grad_norm=None), fit(ONE_ROLLOUT, max_grad_norm=1e-3)) == BOTH


def test_annealing():
    constant, annealed = fit(anneal_lr=False), fit()
    assert changed(constant, annealed) == BOTH

    def rates(run):
        return [
            [d.value for d in r.details if d.metric == "diagnostics/lr" and d.network == "actor"] for r in run.records
        ]

    assert rates(constant) == [[5e-3]] * 3
    assert [rate for (rate,) in rates(annealed)] == pytest.approx([5e-3, 5e-3 * 2 / 3, 5e-3 / 3])


def test_combiner():
    """tests/combiners has more."""
    plain = fit(ONE_ROLLOUT, sharing=Shared())
    found = changed(fit(ONE_ROLLOUT, sharing=Shared(), combiner=combiner_names()["cagrad"]()), plain)
    assert found == BOTH


def test_hidden_sizes():
    shapes = [tuple(layer.theta.shape) for *_, layer in fit(ONE_ROLLOUT, hidden_sizes=(5,)).module.policy.layers()]
    assert shapes == [(5, 4), (2, 5), (5, 4), (1, 5)]


def test_match_parameters(baseline):
    matched = {m: fit(ONE_ROLLOUT, sharing=Shared(), match_parameters=m).module.policy for m in ("active", "stored")}
    counts = {mode: sum(p.numel() for p in policy.parameters()) for mode, policy in matched.items()}
    stored = sum(p.numel() for p in baseline.module.policy.parameters())
    active = sum(
        p.numel() for n, p in baseline.module.policy.named_parameters() if "log_var" not in n and "mu" not in n
    )
    weights = baseline.module.policy.num_variational  # of one task's μ, which it uses beside θ and b
    assert counts["stored"] == pytest.approx(stored, rel=0.02)
    assert counts["active"] == pytest.approx(active + weights, rel=0.02)
    assert changed(fit(ONE_ROLLOUT, match_parameters="stored"), baseline) == set()  # VarShare is its own match


def test_sharing():
    for method, name in ((Shared(), "shared"), (Independent(), "independent"), (VarShare(), "varshare")):
        run = fit(ONE_ROLLOUT, sharing=method)
        assert run.module.method_name == name
        assert ("kl/posterior" in run.records[0].metrics) == (name == "varshare")


def test_options_of_varshare(baseline):
    assert changed(fit(ONE_ROLLOUT, sharing=VarShare(prior_scale=0.2)), baseline) == BOTH
    assert changed(fit(ONE_ROLLOUT, sharing=VarShare(initial_sigma=0.9)), baseline) == BOTH


def test_spec():
    run = fit({"suite": "ComplexCartPole", "num_envs": 5}, minibatch_size=32)
    assert run.module.num_tasks == 5
    assert run.module.policy.actor.stack["layer_1"].mu.shape == (5, 8, 4)


@pytest.mark.parametrize("scope", ["task", "shared"])
def test_normalize_observations(baseline, scope):
    normalised = fit(normalize_observations=scope)
    assert changed(normalised, fit()) == BOTH
    assert changed(fit(ONE_ROLLOUT, normalize_observations=scope), baseline) == set()  # moments of no rows yet


@pytest.mark.parametrize("scope", ["task", "shared"])
def test_normalize_returns_and_popart(baseline, scope):
    plain, popart = (fit(ONE_ROLLOUT, normalize_returns=scope, popart=popart) for popart in (False, True))
    assert changed(plain, baseline) == changed(popart, baseline) == changed(popart, plain) == CRITIC


@pytest.mark.parametrize("scope", ["task", "shared"])
def test_normalize_rewards(baseline, scope):
    assert changed(fit(ONE_ROLLOUT, normalize_rewards=scope), baseline) == BOTH


@pytest.mark.parametrize(
    ("option", "networks"),
    [("normalize_observations", BOTH), ("normalize_returns", CRITIC), ("normalize_rewards", BOTH)],
)
def test_scopes_differ(option, networks):
    data = {"suite": "ComplexCartPole", "num_envs": 5, "total_env_steps": 2 * 160}
    shared, task = (fit(data, minibatch_size=80, **{option: scope}) for scope in ("shared", "task"))
    assert changed(shared, task) >= networks


def test_diagnostics_every():
    def full(run):
        return ["diagnostics/noise_ratio_std" in r.metrics and any(d.layer for d in r.details) for r in run.records]

    every, rare = fit(diagnostics_every=1), fit(diagnostics_every=10)
    assert full(every) == [True, True, True]
    assert full(rare) == [True, False, True]  # the first and the last in any case
    assert changed(every, rare) == set()  # they only observe


def test_target_kl_is_told():
    run = fit(ONE_ROLLOUT, target_kl=1e-9)
    assert run.records[0].metrics["diagnostics/stopped_early"] == 1.0
    assert run.records[0].metrics["gradient_steps"] == 1
    assert fit(ONE_ROLLOUT).records[0].metrics["diagnostics/stopped_early"] == 0.0


def test_optimizer_groups_have_the_options_values():
    rates = {"lr_actor": 1e-3, "lr_critic": 2e-3, "lr_log_var": 3e-3, "adam_eps": 4e-5, "adam_eps_log_var": 5e-9}
    (optimizer,) = fit(ONE_ROLLOUT, **rates).trainer.optimizers
    assert [(g["name"], g["lr"], g["eps"]) for g in optimizer.param_groups] == [
        ("actor", 1e-3, 4e-5),
        ("actor_log_var", 3e-3, 5e-9),
        ("critic", 2e-3, 4e-5),
        ("critic_log_var", 3e-3, 5e-9),
    ]


def test_a_minibatch_size_that_does_not_divide_raises():
    with pytest.raises(ConfigError, match=r"model.minibatch_size: 48 .*128"):
        PPOModule(SPEC, RolloutPlan(128, 3), VarShare(), minibatch_size=48)


def test_bad_sizes_and_method_options_name_their_key():
    with pytest.raises(ConfigError, match=r"^model\.hidden_sizes"):
        PPOModule(SPEC, RolloutPlan(1280, 3), VarShare(), hidden_sizes=())
    with pytest.raises(ConfigError, match=r"^model\.sharing\.init_args\.prior_scale: -1"):
        PPOModule(SPEC, RolloutPlan(1280, 3), VarShare(prior_scale=-1.0))


def test_minibatch_size_sets_the_number_of_steps():
    assert fit(ONE_ROLLOUT, minibatch_size=32, update_epochs=3).records[0].metrics["gradient_steps"] == 12
    assert fit(ONE_ROLLOUT, minibatch_size=128, update_epochs=3).records[0].metrics["gradient_steps"] == 3


def test_an_option_that_is_not_there_is_refused():
    with pytest.raises(TypeError, match="learning_rate"):
        PPOModule(SPEC, RolloutPlan(1280, 3), VarShare(), learning_rate=1.0)
