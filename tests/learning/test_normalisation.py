"""Running moments in learning: targets and values of the critic, and what is written down of them."""

import numpy as np
import pytest
import torch
from helpers import collect, make_policy, perturb, randn

from varshare_pl.errors import ConfigError
from varshare_pl.learning.normalisation import moment_details, normalise_targets
from varshare_pl.networks.groups import TaskGroups
from varshare_pl.networks.options import NormalisationOptions
from varshare_pl.ppo.options import PPOOptions
from varshare_pl.ppo.update import build_rows, evaluate
from varshare_pl.rollout.advantages import gae
from varshare_pl.sharing import method_names

METHODS = {name: cls for name, cls in method_names().items() if cls.__module__.startswith("varshare_pl.")}
OPTIONS = PPOOptions(gamma=0.9, gae_lambda=0.8, advantage_norm="none")


def a_policy(mode, method="varshare", dtype=torch.float64, scope="task"):
    policy = make_policy("ComplexCartPole", METHODS[method](), normalize_returns=scope, popart=mode == "popart").to(
        dtype
    )
    perturb(policy)
    return policy


def some_rows(seed, tasks=5):
    task = torch.arange(200) % tasks
    returns = randn(200, seed=seed) * (10.0 ** task.to(torch.float64)) + 100.0 * task
    return task, returns


def outputs_of(policy, x, task):
    groups = TaskGroups.from_rows(task, 5)
    return groups.ungroup(policy.critic_outputs(groups.group_task, None, groups.group(x))).detach()


def raw_values(policy, x, task):
    return policy.values(outputs_of(policy, x, task), task)


@pytest.mark.parametrize(("method", "scope"), [*((method, "task") for method in METHODS), ("varshare", "shared")])
@pytest.mark.parametrize(("dtype", "precision"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_popart_keeps_every_value(method, scope, dtype, precision):
    policy, x = a_policy("popart", method, dtype, scope), randn(200, 4).to(dtype)
    task, _ = some_rows(0)
    for seed in range(3):
        before = raw_values(policy, x, task)
        std = policy.return_moments.std.clone()
        rows = {"task": task, "values": before, "returns": some_rows(seed)[1].to(dtype) * (1.0 + seed)}
        normalise_targets(policy, rows)
        assert not torch.allclose(policy.return_moments.std, std, rtol=0.05)
        if seed:  # the first moments move nothing
            after = raw_values(policy, x, task)
            assert ((after - before).abs() / policy.return_moments.by_task()[1][task]).max() < precision
        torch.testing.assert_close(rows["values"], outputs_of(policy, x, task), rtol=1e-4, atol=1e-4)


def test_running_keeps_every_output():
    policy, x = a_policy("running"), randn(200, 4)
    task, _ = some_rows(0)
    for seed in range(2):
        outputs = outputs_of(policy, x, task)
        rows = {"task": task, "values": raw_values(policy, x, task), "returns": some_rows(seed)[1]}
        normalise_targets(policy, rows)
        torch.testing.assert_close(outputs_of(policy, x, task), outputs, rtol=0, atol=0)
        torch.testing.assert_close(rows["values"], outputs)


@pytest.mark.parametrize("mode", ["running", "popart"])
def test_targets_are_normalised_by_the_moments_of_their_task(mode):
    policy, every = a_policy(mode), []
    for seed in range(3):
        task, returns = some_rows(seed)
        rows = {"task": task, "values": torch.zeros(200).double(), "returns": returns}
        normalise_targets(policy, rows)
        every.append(returns)
    for m in range(5):
        so_far = torch.cat([part[task == m] for part in every]).numpy()
        expected = (returns[task == m].numpy() - so_far.mean()) / so_far.std()
        np.testing.assert_allclose(rows["returns"][task == m].numpy(), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("mode", ["running", "popart"])
def test_targets_are_normalised_by_the_moments_of_all_tasks(mode):
    """Here all tasks have as many rows, so that their weights are equal."""
    policy, every = a_policy(mode, scope="shared"), []
    for seed in range(3):
        task, returns = some_rows(seed)
        rows = {"task": task, "values": torch.zeros(200).double(), "returns": returns}
        normalise_targets(policy, rows)
        every.append(returns)
    so_far = torch.cat(every).numpy()
    np.testing.assert_allclose(rows["returns"].numpy(), (returns.numpy() - so_far.mean()) / so_far.std(), rtol=1e-8)


@pytest.mark.parametrize("scope", ["task", "shared"])
@pytest.mark.parametrize("mode", ["running", "popart"])
def test_advantages_come_from_raw_values(mode, scope):
    """With a critic that says V in units of its own, what it says about rewards counts."""
    policy = a_policy(mode, dtype=torch.float32, scope=scope)
    task, returns = some_rows(0)
    returns = returns / 1e4  # of the size of the rewards
    normalise_targets(policy, {"task": task, "values": returns.float(), "returns": returns.float()})
    mean, std = policy.return_moments.mean, policy.return_moments.std
    mean, std = (each.expand(5) for each in (mean, std))
    (rollout,) = collect(policy, "ComplexCartPole", 3, 40, task_assignment="cycle")
    rollout.truncated[7, 1] = True
    rollout.terminated[7, 1] = False
    rollout.final_obs[7, 1] = randn(4, dtype=torch.float32)
    _, values, following = evaluate(policy, rollout)

    def value(obs, task):
        output = policy.critic(obs[None], task[None]).squeeze()
        if mode == "popart":
            output = output * policy.popart.scale[task] + policy.popart.shift[task]
        return (output * std[task] + mean[task]).detach()

    for t in range(40):
        for env in range(3):
            torch.testing.assert_close(values[t, env], value(rollout.obs[t, env], rollout.task[t, env]))
    torch.testing.assert_close(following[7, 1], value(rollout.final_obs[7, 1], rollout.task[7, 1]))
    for env in range(3):
        torch.testing.assert_close(following[-1, env], value(rollout.last_obs[env], rollout.last_task[env]))
    rows, _ = build_rows(policy, rollout, OPTIONS)
    ends = (rollout.terminated, rollout.truncated)
    expected = gae(rollout.rewards, values, following, *ends, 0.9, 0.8)
    assert torch.equal(rows["advantages"], expected.flatten())
    assert torch.equal(rows["returns"], (expected + values).flatten())


def test_details_of_moments():
    policy = make_policy("ComplexCartPole", normalize_returns="task", normalize_rewards="task")
    assert moment_details(policy) == []
    policy.return_moments.update(torch.tensor([1.0, 3.0]), torch.tensor([2, 2]))
    policy.reward_moments.update(torch.tensor([0.0, 10.0]), torch.tensor([4, 4]))
    found = {(d.metric, d.task): d.value for d in moment_details(policy)}
    assert found == {
        ("normalisation/return_mean", 2): 2.0,
        ("normalisation/return_std", 2): 1.0,
        ("normalisation/reward_std", 4): 5.0,
    }
    assert moment_details(make_policy("ComplexCartPole")) == []


def test_details_of_shared_moments_have_no_task():
    policy = make_policy("ComplexCartPole", normalize_returns="shared", normalize_rewards="shared")
    assert moment_details(policy) == []
    policy.return_moments.update(torch.tensor([1.0, 3.0]), torch.tensor([2, 0]))
    found = {(d.metric, d.task): d.value for d in moment_details(policy)}
    assert found == {("normalisation/return_mean", None): 2.0, ("normalisation/return_std", None): 1.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalize_observations": True}, "True .*; auto, shared, task or none is; True has become"),
        ({"normalize_rewards": False}, "normalize_rewards: False is not allowed; .*; False has become none"),
        ({"normalize_returns": "running"}, "normalize_returns: running is not allowed; .*; running has become task"),
        ({"normalize_returns": "popart"}, "popart is not allowed; .*; popart has become task, with model.popart true"),
        ({"normalize_returns": "both"}, "normalize_returns: both is not allowed; shared, task or none is$"),
        ({"popart": True}, "popart: true is not allowed with model.normalize_returns none; shared and task are$"),
    ],
)
def test_values_that_are_not_there_are_refused(options, message):
    with pytest.raises(ConfigError, match=f"^model.*{message}"):
        NormalisationOptions(**options)


def test_defaults_are_one_scale_for_all_tasks():
    options = NormalisationOptions()
    assert options == NormalisationOptions(
        normalize_observations="auto", normalize_returns="none", popart=False, normalize_rewards="shared"
    )
    assert (options.observation_scope(False), options.observation_scope(True)) == ("shared", "none")
