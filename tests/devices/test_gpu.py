"""Training on a GPU is training on the CPU, but for rounding."""

import pytest
import torch
from helpers import ACCELERATOR, ALL_METHODS, NEEDS_GPU, fit, weights_of

pytestmark = NEEDS_GPU

# The first rollout comes from the same weights on both, so that its update is the same one.
ONE_ROLLOUT = {"total_env_steps": 128}
SUITES = {"categorical": "MirroredCartPole", "Gaussian": "PointMassDial"}
CASES = [(SUITES["categorical"], name, {}) for name in sorted(ALL_METHODS)] + [
    (SUITES["Gaussian"], "varshare", options)
    for options in (
        {},
        {"log_std": "network"},
        {"action_bounds": "tanh"},
        {"log_std": "shared", "normalize_returns": "task"},
    )
]


def assert_same_training(suite, method, cpu, gpu):
    """Both runs have the same weights after their update, and moved from where they began."""
    data = {"suite": suite, "num_envs": 4 if suite == SUITES["categorical"] else 6, **ONE_ROLLOUT}
    data["rollout_steps"] = data["total_env_steps"] // 4
    sizes = {"minibatch_size": data["num_envs"] * data["rollout_steps"] // 2}
    expected = fit(data, sharing=ALL_METHODS[method](), **sizes, **cpu)
    own = {"backend": "torch"} if gpu.get("compile") else {}
    found = fit(data | own, trainer={"accelerator": ACCELERATOR}, sharing=ALL_METHODS[method](), **sizes, **gpu)
    wanted = weights_of(expected.module)
    for name, weight in weights_of(found.module).items():
        torch.testing.assert_close(weight.cpu(), wanted[name], rtol=1e-3, atol=2e-5, msg=name)
    assert found.records[0].metrics.keys() == expected.records[0].metrics.keys()


@pytest.mark.parametrize(("suite", "method", "options"), CASES, ids=str)
def test_training_on_a_gpu_is_that_on_the_cpu(suite, method, options):
    assert_same_training(suite, method, options, options)


@pytest.mark.parametrize("method", ["shared", "varshare"])
def test_compiled_training_on_a_gpu_is_the_eager_one(method, monkeypatch, tmp_path):
    monkeypatch.setenv("VARSHARE_CACHE", str(tmp_path))
    assert_same_training(SUITES["categorical"], method, {}, {"compile": True})


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("suite", SUITES.values())
def test_half_precision_trains(suite, precision):
    run = fit(
        {"suite": suite, "num_envs": 12, "rollout_steps": 32, "total_env_steps": 3 * 384},
        trainer={"accelerator": ACCELERATOR, "precision": precision},
        minibatch_size=192,
    )
    assert len(run.records) == 3
    assert all(weight.isfinite().all() for weight in weights_of(run.module).values())
