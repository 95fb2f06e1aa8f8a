"""Compiled acting and gradient steps against the eager ones, from the same weights, streams and rollouts."""

import copy
import warnings
from types import SimpleNamespace

import pytest
import torch
from helpers import PLAIN, fit

from varshare_pl.envs import get_suite, make_vector_env
from varshare_pl.errors import ConfigError, NonFiniteError
from varshare_pl.ppo.module import PPOModule
from varshare_pl.rollout.collector import Collector
from varshare_pl.sharing import method_names
from varshare_pl.types import RolloutPlan

SUITE = "MirroredCartPole"
ENVS, STEPS = 12, 4


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Compiled once for all tests of the process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VARSHARE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def make_module(sharing="varshare", method=None, **options):
    sizes = {"hidden_sizes": (8,), "minibatch_size": 24, "update_epochs": 2}
    with warnings.catch_warnings(action="ignore"):  # "fresh" is for comparison only
        own = method_names()[sharing](**(method or {}))
        return PPOModule(get_suite(SUITE).env_spec(), RolloutPlan(ENVS * STEPS, 3), own, **{**sizes, **options})


def make_collector(module, compiled):
    envs = make_vector_env(SUITE, ENVS, "torch" if compiled else "batched", seed=3)
    return Collector(envs, module.num_tasks, compiled=compiled)


def train(module, rollouts=2):
    """Records and weights after some rollouts."""
    optimizer = module.configure_optimizers()
    collector = make_collector(module, module.options.compile)
    records = [module.learn(collector.collect(module.acting_policy(k), STEPS, k)) for k in range(rollouts)]
    return records, [p.detach().clone() for p in module.parameters()], optimizer


SOME_LAYERS = {"layers": ["head"], "task_bias": True}
ABSORBING = {"absorption": 0.5, "task_embedding": 2}
# Compiling takes a quarter of a minute each, so that options stand together.
CASES = [
    ("varshare", {}),
    ("shared_onehot", {"max_grad_norm": 100.0}),  # which nothing reaches
    ("moore", {}),  # a whole network
    ("varshare", {"actor_noise": "fresh", "activation": "silu"}),
    ("varshare", {"actor_noise": "stored"}),
    ("varshare_low_rank", {"actor_noise": "stored"}),
    ("varshare", {"actor_noise": "mean", "critic_noise": "weights", "max_grad_norm": None, "value_clip_range": 0.2}),
    ("varshare", {"minibatch_size": 12, "activation": "relu", "target_kl": 0.5}),  # four in a call
    ("varshare_learned_prior", {"method": SOME_LAYERS, "kl_schedule": "warmup_ramp", "kl_weight": 20.0}),
    ("varshare_controlled_prior", {"method": ABSORBING, "kl_weight": 20.0}),
    ("varshare_deterministic", {"kl_weight": 20.0}),
    (
        "varshare",
        {"normalize_observations": "task", "normalize_returns": "task", "popart": True, "normalize_rewards": "task"},
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "options"), CASES)
def test_compiled_training_is_eager_training(method, options):
    expected, weights, optimizer = train(make_module(method, **options))
    found, others, other = train(make_module(method, compile=True, **options))
    for one, two in zip(weights, others, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)
    for one, two in zip(expected, found, strict=True):
        assert one.metrics.keys() == two.metrics.keys()
        for name in one.metrics.keys() - {"wall_time_s", "sps"}:
            assert two.metrics[name] == pytest.approx(one.metrics[name], rel=1e-3, abs=1e-4, nan_ok=True), name
    for one, two in zip(optimizer.state.values(), other.state.values(), strict=True):
        assert one["step"] == two["step"] == (16 if "minibatch_size" in options else 8)
        torch.testing.assert_close(two["exp_avg"], one["exp_avg"], rtol=1e-3, atol=1e-5)


PICTURES = [{"id": "picture_env:Picture-v0", "name": name} for name in "ab"]
OTHER_SUITES = [
    # Without normalisation: a point of a picture that hardly varies would make much of a last digit.
    ("varshare", PICTURES, PLAIN),  # an encoder that all share
    ("independent", PICTURES, PLAIN),  # one each
    ("shared", {"tasks": ["CartPole-v1", "Acrobot-v1"], "pad": True}, {"actor_noise": "mean"}),  # actions are masked
]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "suite", "options"), OTHER_SUITES)
def test_compiled_steps_on_images_and_padded_tasks(method, suite, options):
    found = get_suite(suite)
    weights = []
    for switch in (False, True):
        sharing, plan = method_names()[method](), RolloutPlan(ENVS * STEPS, 2)
        sizes = {"hidden_sizes": (8,), "minibatch_size": 24, "update_epochs": 2}
        module = PPOModule(found.env_spec(), plan, sharing, compile=switch, **sizes, **options)
        module.configure_optimizers()
        envs = make_vector_env(found, ENVS, "sync", seed=3)
        collector = Collector(envs, 2, obs_dtype=found.observation_space.dtype)
        for k in range(2):
            module.learn(collector.collect(module.acting_policy(k), STEPS, k))
        weights.append([p.detach().clone() for p in module.parameters()])
    for one, two in zip(*weights, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-4)  # a step of Adam is up to 5e-3


@pytest.mark.slow
def test_compiled_acting_is_eager_acting():
    module = make_module()
    eager, compiled = make_collector(module, compiled=False), make_collector(module, compiled=True)
    for k in range(12):
        one, two = (c.collect(module.acting_policy(k), STEPS, k) for c in (eager, compiled))
        for name in ("obs", "task", "actions", "rewards", "terminated", "truncated", "final_obs", "last_obs"):
            assert torch.equal(getattr(one, name), getattr(two, name)), name
        torch.testing.assert_close(two.dist_params, one.dist_params)
        for name in ("task", "returns", "lengths"):
            assert torch.equal(getattr(one.episodes, name), getattr(two.episodes, name)), name
    assert len(one.episodes.task) > 0
    one, two = eager.get_state(), compiled.get_state()
    assert one["returns"] == two["returns"]
    assert one["lengths"] == two["lengths"]
    for env, other in zip(one["envs"], two["envs"], strict=True):
        assert other["env"].pop("state") == pytest.approx(env["env"].pop("state"), abs=1e-9)
        assert env == other


@pytest.mark.slow
@pytest.mark.parametrize("column", ["success", "metric"])
def test_compiled_acting_tells_what_the_infos_tell(column):
    """Success, or another number out of the info, of masses whose episodes last longer than a rollout."""
    suite = get_suite("PointMassDial")
    plan, sizes = RolloutPlan(ENVS * 25, 5), {"hidden_sizes": (8,), "minibatch_size": ENVS * 25}
    module = PPOModule(suite.env_spec(), plan, method_names()["varshare"](), **sizes)
    wanted = {"success": suite.success} if column == "success" else {"info_metrics": ["success"]}
    eager, compiled = (
        Collector(make_vector_env(suite, ENVS, backend, seed=3), 6, compiled=backend == "torch", **wanted)
        for backend in ("batched", "torch")
    )
    found = []
    for k in range(5):
        one, two = (c.collect(module.acting_policy(k), 25, k) for c in (eager, compiled))
        torch.testing.assert_close(two.obs, one.obs)
        torch.testing.assert_close(two.episodes.returns, one.episodes.returns)
        numbers = [e.success if column == "success" else e.info["success"] for e in (one.episodes, two.episodes)]
        for name in ("task", "lengths"):
            assert torch.equal(getattr(one.episodes, name), getattr(two.episodes, name)), name
        assert torch.equal(*numbers)
        found.append(numbers[0])
    assert compiled._acting is not None  # not the same path twice
    assert len(torch.cat(found)) == 3 * ENVS
    assert column == "metric" or 0 < torch.cat(found).sum() < 3 * ENVS
    states = [c.get_state() for c in (eager, compiled)]
    assert all(states[0].get(name) == states[1].get(name) for name in ("success", "lengths"))


@pytest.mark.slow
def test_target_kl_stops_at_the_same_step():
    records = [train(make_module(target_kl=1e-4, update_epochs=4, compile=c))[0][0] for c in (False, True)]
    assert records[0].metrics["diagnostics/stopped_early"] == 1.0
    for name in ("gradient_steps", "kl/policy", "diagnostics/stopped_early", "loss/total"):
        assert records[1].metrics[name] == pytest.approx(records[0].metrics[name], rel=1e-3), name
    assert 0 < records[0].metrics["gradient_steps"] < 8


@pytest.mark.slow
def test_a_gradient_that_is_not_finite_stops_before_the_step():
    module = make_module(compile=True)
    module.configure_optimizers()
    rollout = make_collector(module, compiled=False).collect(module.acting_policy(0), STEPS, 0)
    rollout.rewards[3, 1] = torch.nan
    before = [p.detach().clone() for p in module.parameters()]
    with pytest.raises(NonFiniteError, match="actor is not finite in rollout 0, gradient step 0 of its update; not"):
        module.learn(rollout)
    assert all(torch.equal(one, two) for one, two in zip(before, module.parameters(), strict=True))


@pytest.mark.slow
def test_a_fit_with_the_switch_compiles_and_resumes_exactly(tmp_path, capfd):
    # A suite whose success is a number of the info, and whose episodes end in every rollout.
    data = {"suite": "PointMassDial", "num_envs": 6, "rollout_steps": 64, "total_env_steps": 3 * 384}
    options = {"compile": True, "hidden_sizes": (8,), "data": data}
    whole = fit(**copy.deepcopy(options))
    text = capfd.readouterr().err
    assert "compiled acting in" in text
    assert "compiled update in" in text
    eager = fit(**copy.deepcopy(options) | {"compile": False})
    for one, two in zip(eager.records, whole.records, strict=True):
        assert two.metrics["loss/total"] == pytest.approx(one.metrics["loss/total"], rel=1e-3)
        assert two.metrics["train/success_mean"] == one.metrics["train/success_mean"]
    again = fit(**copy.deepcopy(options))
    assert "compiled" not in capfd.readouterr().err  # kept
    for one, two in zip(whole.module.parameters(), again.module.parameters(), strict=True):
        assert torch.equal(one, two)


def test_refused_where_tasks_change():
    changing = RolloutPlan(96, 3, tasks_fixed=False)
    with pytest.raises(ConfigError, match=r"model\.compile: true is not allowed where envs change their tasks"):
        PPOModule(get_suite(SUITE).env_spec(), changing, method_names()["shared"](), minibatch_size=96, compile=True)


@pytest.mark.parametrize(
    ("processes", "scaler", "what"), [(2, {}, "several processes"), (1, {"scaler": 1}, "16-mixed")]
)
def test_refused_with(processes, scaler, what):
    module = make_module(compile=True)
    plugin = SimpleNamespace(**scaler)
    module._trainer = SimpleNamespace(precision="16-mixed", world_size=processes, precision_plugin=plugin)
    with pytest.raises(ConfigError, match=rf"model\.compile: true is not allowed with .*{what}"):
        module.setup("fit")
