"""Every tensor of acting, update and evaluation is on the module's device; what envs see is on the CPU."""

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from helpers import METHODS
from pretend import DEVICE, Pretend, accelerator, move

from varshare_pl.envs import get_suite, make_vector_env
from varshare_pl.ppo.module import PPOModule
from varshare_pl.rollout.collector import Collector
from varshare_pl.trained.evaluation import evaluate
from varshare_pl.types import Episodes, Rollout, RolloutPlan

SUITE = "MirroredCartPole"
ROLLOUTS = 2


def to_device(record: Any) -> Any:
    """What Lightning does with a batch."""
    moved = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, torch.Tensor):
            moved[field.name] = value.to(DEVICE)
        elif isinstance(value, Episodes):
            moved[field.name] = to_device(value)
    return replace(record, **moved)


def train(on_device: bool, method: str, **options: Any) -> tuple[PPOModule, list[Rollout], list[Any]]:
    """Two rollouts with their updates, without Lightning, which has no such accelerator."""
    suite = get_suite(SUITE)
    # 3 envs for 2 tasks: they change task. 200 steps: some episodes are truncated by the low limit below.
    sizes = {"minibatch_size": 60, "update_epochs": 2, "hidden_sizes": (8, 8), "diagnostics_every": 1, **options}
    plan = RolloutPlan(120, ROLLOUTS, tasks_fixed=False)
    module = PPOModule(suite.env_spec(), plan, METHODS[method](), **sizes)
    if on_device:
        move(module)
        module._device = DEVICE
    module.configure_optimizers()
    collector = Collector(make_vector_env(suite, 3, seed=1), suite.num_tasks)
    rollouts, records = [], []
    for index in range(ROLLOUTS):
        rollout = collector.collect(module.acting_policy(index), 40, index)
        rollout.truncated[7] = True  # the last observation before a limit is looked at too
        rollouts.append(rollout)
        records.append(module.learn(to_device(rollout) if on_device else rollout))
    return module, rollouts, records


CASES = [(method, {}) for method in METHODS] + [
    ("varshare", options)
    for options in (
        {"actor_noise": "fresh"},
        {"actor_noise": "stored"},
        {"actor_noise": "mean", "advantage_norm": "pooled"},
        {"advantage_norm": "none", "value_clip_range": 0.2, "max_grad_norm": None},
        {"target_kl": 1e-9},
        {"normalize_observations": "task", "normalize_returns": "task", "popart": True, "normalize_rewards": "task"},
    )
]


@pytest.mark.parametrize(("method", "options"), CASES, ids=str)
@pytest.mark.filterwarnings("ignore:model.actor_noise=fresh:UserWarning")
def test_training_on_an_accelerator_is_that_on_the_cpu(method: str, options: dict[str, Any]) -> None:
    expected, expected_rollouts, expected_records = train(False, method, **options)
    with accelerator() as device:
        module, rollouts, records = train(True, method, **options)
        weights = [(name, parameter, parameter.detach().cpu()) for name, parameter in module.named_parameters()]
    assert device.operations > 500
    wanted = dict(expected.named_parameters())
    for name, parameter, weight in weights:
        assert isinstance(parameter, Pretend)
        torch.testing.assert_close(weight, wanted[name].detach(), rtol=0.0, atol=1e-6)
    for rollout, other in zip(rollouts, expected_rollouts, strict=True):
        assert not isinstance(rollout.dist_params, Pretend)
        assert torch.equal(rollout.actions, other.actions)
    for record, other in zip(records, expected_records, strict=True):
        assert record.metrics.keys() == other.metrics.keys()
        assert all(type(value) in (int, float) for value in record.metrics.values())
        assert all(type(detail.value) is float for detail in record.details)
        for name in ("loss/value", "loss/entropy", "diagnostics/explained_variance", "episodes"):
            assert record.metrics[name] == pytest.approx(other.metrics[name], rel=1e-4)


@pytest.mark.parametrize("shared_only", [False, True])
def test_evaluation_on_an_accelerator(shared_only: bool) -> None:
    suite = get_suite(SUITE)
    module = PPOModule(
        suite.env_spec(), RolloutPlan(120, 1), METHODS["varshare"](), hidden_sizes=(8,), minibatch_size=60
    )
    expected = evaluate(module.policy.deterministic(shared_only), suite, 2, seed=1, counter=0)
    with accelerator() as device:
        move(module)
        result = evaluate(module.policy.deterministic(shared_only), suite, 2, seed=1, counter=0)
    assert device.operations > 10
    assert (result.returns == expected.returns).all()


def test_the_pretended_device_refuses_what_a_gpu_does() -> None:
    with accelerator():
        there = torch.ones(3).to(DEVICE)
        assert isinstance(there + torch.tensor(1.0), Pretend)
        assert isinstance(there[torch.tensor([0])], Pretend)
        assert not isinstance(there.cpu(), Pretend)
        with pytest.raises(AssertionError, match="mixes devices"):
            there + torch.ones(3)
        with pytest.raises(AssertionError, match="mixes devices"):
            torch.ones(3)[torch.tensor([0]).to(DEVICE)]
