"""Whole runs with running moments: acting and learning agree, and every run can be resumed."""

import math
import warnings

import numpy as np
import pytest
import torch
from helpers import collect, fit, option_names, perturb
from lightning.pytorch import Callback
from stopping import StopAfter
from torch.fx.experimental.proxy_tensor import make_fx

from varshare_pl.combiners import combiner_names
from varshare_pl.envs import get_suite
from varshare_pl.errors import ConfigError
from varshare_pl.ppo import compiled
from varshare_pl.ppo.module import PPOModule
from varshare_pl.sharing import VarShare, method_names
from varshare_pl.types import RolloutPlan

METHODS = {name: cls for name, cls in method_names().items() if cls.__module__.startswith("varshare_pl.")}
ALL = {"normalize_observations": "task", "normalize_returns": "task", "popart": True, "normalize_rewards": "task"}
SHARED = {name: "shared" if value == "task" else value for name, value in ALL.items()}
EACH = {
    "observations": {"normalize_observations": "task"},
    "returns": {"normalize_returns": "task"},
    "popart": {"normalize_returns": "task", "popart": True},
    "rewards": {"normalize_rewards": "task"},
    "all": ALL,
    "shared": SHARED,
}
CYCLE = {"suite": "ComplexCartPole", "num_envs": 2, "rollout_steps": 64}


@pytest.mark.parametrize("kind", EACH)
def test_the_ratio_starts_at_1_and_moments_move_between_rollouts(kind):
    run = fit(CYCLE | {"total_env_steps": 4 * 128}, **EACH[kind])
    assert all(record.metrics["diagnostics/first_ratio_deviation"] <= 1e-6 for record in run.records)
    policy = run.module.policy
    rows = 4 * 128
    for moments in (policy.observation_moments, policy.return_moments, policy.reward_moments):
        assert moments is None or moments.count.sum() == rows


@pytest.mark.parametrize(
    "options",
    [
        {"actor_noise": "stored"},
        {"actor_noise": "mean"},
        {"critic_noise": "weights", "value_clip_range": 0.2},
        {"combiner": combiner_names()["pcgrad"](), "sharing": METHODS["shared"]()},
        {"sharing": METHODS["moore"]()},
        {"sharing": VarShare(absorption=0.5)},
    ],
    ids=option_names,
)
def test_the_ratio_starts_at_1_whatever_is_combined(options):
    run = fit(CYCLE, **ALL, **options)
    assert all(record.metrics["diagnostics/first_ratio_deviation"] <= 1e-6 for record in run.records)
    assert all(math.isfinite(record.metrics["loss/total"]) for record in run.records)
    assert not torch.equal(run.module.policy.popart.scale, torch.ones(5))  # trained, and moved with the moments


def test_observation_moments_are_those_of_all_rollouts():
    seen = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            seen.append((batch.obs.flatten(0, 1).double(), batch.task.flatten()))

    run = fit(CYCLE | {"total_env_steps": 4 * 128}, [Watch()], normalize_observations="task")
    obs, task = (torch.cat(column).numpy() for column in zip(*seen, strict=True))
    moments = run.module.policy.observation_moments
    for m in range(5):
        np.testing.assert_allclose(moments.mean[m], obs[task == m].mean(0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(moments.variance[m], obs[task == m].var(0), rtol=1e-4)


@pytest.mark.parametrize("kind", EACH)
@pytest.mark.parametrize("data", [{}, CYCLE], ids=["fixed", "cycle"])
def test_resumed_equals_uninterrupted(kind, data, tmp_path):
    data = {"total_env_steps": 4 * 128, **data}
    whole = fit(data, **EACH[kind])
    path = tmp_path / "stopped.ckpt"
    fit(data, [StopAfter(2, path)], **EACH[kind])
    torch.load(path, weights_only=True)
    rest = fit(data, ckpt_path=path, **EACH[kind])
    state, expected = rest.module.state_dict(), whole.module.state_dict()
    torch.testing.assert_close(dict(state), dict(expected), rtol=0, atol=0, equal_nan=True)
    returns = [run.module.reward_scaling and run.module.reward_scaling.state() for run in (rest, whole)]
    assert returns[0] == returns[1]


def test_a_checkpoint_of_another_normalisation_is_refused(tmp_path):
    path = tmp_path / "plain.ckpt"
    fit({"total_env_steps": 256}, [StopAfter(1, path)])
    for scope in (ALL, SHARED):
        with pytest.raises(ConfigError, match=r"^--ckpt_path: only the .* has the parameter policy\."):
            fit({"total_env_steps": 256}, ckpt_path=path, **scope)


def test_a_checkpoint_of_another_scope_is_refused(tmp_path):
    path = tmp_path / "shared.ckpt"
    fit({"total_env_steps": 256}, [StopAfter(1, path)], normalize_observations="shared")
    with pytest.raises(ConfigError, match=r"policy\.observation_moments\.count has the shape \(1,\), .* \(2,\)"):
        fit({"total_env_steps": 256}, ckpt_path=path, normalize_observations="task")


def test_weights_of_a_checkpoint_come_with_their_moments(tmp_path):
    path = tmp_path / "stopped.ckpt"
    first = fit({"total_env_steps": 256}, [StopAfter(1, path)], **ALL)
    spec = get_suite("MirroredCartPole").env_spec()
    module = PPOModule(spec, RolloutPlan(128, 2), VarShare(), hidden_sizes=(8, 8), minibatch_size=64, **ALL)
    module.load_weights(torch.load(path, weights_only=True))
    for name, value in first.module.policy.state_dict().items():
        assert torch.equal(module.policy.state_dict()[name], value), name
    assert module.policy.observation_moments.count.sum() == 128


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_in_a_precision(precision):
    run = fit(trainer={"precision": precision}, **ALL)
    names = ("loss/total", "loss/value", "diagnostics/grad_norm")
    assert all(math.isfinite(record.metrics[name]) for record in run.records for name in names)
    assert all(record.metrics["diagnostics/first_ratio_deviation"] <= 1e-6 for record in run.records)
    dtype = torch.float64 if precision == "64-true" else torch.float32
    assert {b.dtype for name, b in run.module.policy.named_buffers() if "moments.mean" in name} == {dtype}


def trace(function, arguments, name):
    """In place of the compiler: the graph that it would get, run by torch."""
    with warnings.catch_warnings(action="ignore"):
        graph = make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)(*arguments)
    for constant, value in list(graph.named_buffers()):
        setattr(graph, constant, value.clone())  # machine code keeps constants as they were
    return graph


@pytest.mark.parametrize("kind", EACH)
def test_traced_gradient_steps_see_the_moments_of_the_moment(kind, monkeypatch):
    """The graph is made in the first rollout, when moments are still 0 and 1."""
    monkeypatch.setattr(compiled, "compile_function", trace)
    weights = []
    for traced in (False, True):
        spec = get_suite("MirroredCartPole").env_spec()
        options = {"hidden_sizes": (8,), "minibatch_size": 16, "update_epochs": 1, **EACH[kind]}
        module = PPOModule(spec, RolloutPlan(16, 3), VarShare(), compile=traced, **options)
        perturb(module, 0.1)
        module.configure_optimizers()
        for rollout in collect(module.policy, "MirroredCartPole", 4, 4, rollouts=3):
            module.learn(rollout)
        weights.append([p.detach().clone() for p in module.parameters()])
    for one, two in zip(*weights, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)
