"""Policies of every method with normalised observations and PopArt, through every way in."""

import pytest
import torch
from helpers import ALL_METHODS, collect, fit, generator, local_noises, make_policy, perturb, randn, weight_noises

from varshare_pl.learning.optimizer import build_optimizer
from varshare_pl.learning.options import OptimizerOptions
from varshare_pl.learning.weight_noise import make_actor_noise
from varshare_pl.networks.actor_critic import LARGEST_OBSERVATION
from varshare_pl.networks.groups import TaskGroups
from varshare_pl.networks.size import network_sizes, parameter_rows
from varshare_pl.sharing import VarShare

SUITE = "ComplexCartPole"
SCOPES = ("task", "shared")
TASK = torch.tensor([2, 0, 3, 2, 4, 1, 4])


def normalised(method="varshare", seed=3, scope="task"):
    """A policy with moments that are not 0 and 1, and one without, of the same weights."""
    options = {"normalize_observations": scope, "normalize_returns": scope, "popart": True}
    policy, plain = (make_policy(SUITE, ALL_METHODS[method](), **chosen) for chosen in (options, {}))
    perturb(plain)
    policy.load_state_dict(plain.state_dict(), strict=False)
    task = torch.arange(5).repeat(20)
    policy.observation_moments.update(randn(100, 4, seed=seed) * (task + 1.0)[:, None] + task[:, None], task)
    return policy, plain


def by_hand(policy, x, task):
    task = torch.zeros_like(task) if len(policy.observation_moments.mean) == 1 else task
    mean, deviation = policy.observation_moments.mean[task], policy.observation_moments.variance[task].sqrt()
    return ((x - mean) / deviation).clamp(-LARGEST_OBSERVATION, LARGEST_OBSERVATION)


@pytest.mark.parametrize("task", [TASK, torch.tensor([3, 0, 0, 3, 3, 0, 3])], ids=["all", "some"])
@pytest.mark.parametrize(("method", "scope"), [*((method, "task") for method in ALL_METHODS), ("varshare", "shared")])
def test_networks_read_normalised_observations(method, scope, task):
    policy, plain = normalised(method, scope=scope)
    assert len(policy.observation_moments.mean) == {"task": 5, "shared": 1}[scope]
    x, groups = 20.0 * randn(7, 4, dtype=torch.float32), TaskGroups.from_rows(task, 5)
    normal = by_hand(policy, x, task)
    assert (normal.abs() == LARGEST_OBSERVATION).any()
    assert (normal.abs() < LARGEST_OBSERVATION).any()
    torch.testing.assert_close(policy.encode(x, task), normal)
    params = policy.action_params(policy.prepare_actor(groups.group_task), x, groups)
    torch.testing.assert_close(params, plain.actor(normal, task))
    values = policy.critic_outputs(groups.group_task, None, groups.group(policy.encode(x, task)))
    torch.testing.assert_close(groups.ungroup(values), plain.critic(normal, task).squeeze(-1))


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("mode", ["rollout", "mean"])
def test_acting_reads_normalised_observations(mode, scope):
    policy, plain = normalised(scope=scope)
    (rollout,) = collect(policy, SUITE, 5, 20, mode=mode)
    noise = make_actor_noise(mode, policy.actor, 1)
    normal = by_hand(policy, rollout.obs.flatten(0, 1), rollout.task.flatten())
    params = plain.actor(normal, rollout.task.flatten(), None if noise is None else noise.acting(0, 0, 5))
    torch.testing.assert_close(rollout.dist_params.flatten(0, 1), params, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scope", SCOPES)
def test_the_evaluated_policy_reads_normalised_observations(scope):
    policy, plain = normalised(scope=scope)
    x = 3.0 * randn(7, 4, dtype=torch.float32)
    for shared_only in (False, True):
        expected = plain.deterministic(shared_only)(by_hand(policy, x, TASK), TASK)
        assert torch.equal(policy.deterministic(shared_only)(x, TASK), expected)


@pytest.mark.parametrize("tasks", [range(5), (0, 3)], ids=["all", "some"])
@pytest.mark.parametrize("method", ALL_METHODS)
def test_a_rescaled_output_is_rescaled(method, tasks):
    policy, plain = (p.double() for p in normalised(method))
    group_task = torch.tensor(list(tasks))
    x = randn(len(group_task), 3, 4)
    expected = plain.critic_outputs(group_task, None, x)
    ratio, offset = torch.rand(5, generator=generator(1)).double() + 0.5, randn(5)
    for _ in range(2):
        policy.popart.rescale(ratio, offset)
        expected = ratio[group_task, None] * expected + offset[group_task, None]
    torch.testing.assert_close(policy.critic_outputs(group_task, None, x), expected, rtol=1e-12, atol=1e-12)


def test_popart_by_hand_with_its_gradients():
    popart = make_policy(SUITE, normalize_returns="task", popart=True).popart.double()
    popart.rescale(torch.linspace(0.5, 2.0, 5), torch.linspace(-1.0, 1.0, 5))
    outputs, seed, tasks = randn(2, 3).requires_grad_(), randn(2, 3, seed=1), torch.tensor([1, 4])
    scaled = popart(outputs, tasks)
    torch.testing.assert_close(scaled, torch.tensor([0.875, 2.0]).view(2, 1) * outputs + torch.tensor([[-0.5], [1.0]]))
    scaled.backward(seed)
    torch.testing.assert_close(popart.shift.grad[tasks], seed.sum(1))
    torch.testing.assert_close(popart.scale.grad[tasks], (seed * outputs.detach()).sum(1))
    torch.testing.assert_close(outputs.grad, seed * popart.scale.detach()[tasks, None])
    assert popart.scale.grad.nonzero().flatten().tolist() == [1, 4]


def test_noise_and_kl_are_those_of_the_networks():
    policy, plain = normalised()
    torch.testing.assert_close(policy.kl(), plain.kl())
    assert policy.num_variational == plain.num_variational
    group_task, x = torch.tensor([0, 3]), randn(2, 6, 4, dtype=torch.float32)
    for draw in (weight_noises, lambda network: local_noises(network, 2, 6)):
        found, expected = (p.critic_outputs(group_task, draw(p.critic), x) for p in (policy, plain))
        torch.testing.assert_close(found, expected)
        assert not torch.allclose(found, plain.critic_outputs(group_task, None, x))


def test_scale_and_shift_are_trained_with_the_critic():
    policy, plain = normalised()
    groups = build_optimizer(policy, OptimizerOptions()).param_groups
    assert [group["name"] for group in groups] == ["actor", "actor_log_var", "critic", "critic_log_var"]
    critic = {id(p) for p in groups[2]["params"]}
    assert {id(policy.popart.scale), id(policy.popart.shift)} <= critic
    assert len(critic) == len(build_optimizer(plain, OptimizerOptions()).param_groups[2]["params"]) + 2


def test_scale_and_shift_are_counted_with_the_critic_once_a_task():
    policy, plain = normalised()
    sizes, others = network_sizes(policy, 4), network_sizes(plain, 4)
    assert sizes["actor"] == others["actor"]
    assert sizes["critic"].stored == others["critic"].stored + 10
    assert sizes["critic"].active == others["critic"].active + 2
    assert sum(row.count for row in parameter_rows(policy)) == sum(size.stored for size in sizes.values())
    rows, known = ({(row.network, row.name) for row in parameter_rows(p)} for p in (policy, plain))
    assert {name for _, name in rows - known} == {"scale", "shift"}


def test_nothing_is_there_unless_asked_for():
    plain = make_policy(SUITE, VarShare())
    assert not [name for name in plain.state_dict() if "moments" in name or "popart" in name]
    assert plain.observation_moments is plain.return_moments is plain.reward_moments is plain.popart is None


def test_stored_noise_and_normalised_observations_go_together():
    """What acts is what the update computes again: the ratio starts at 1, and there is noise."""
    run, other = (
        fit({"total_env_steps": 128}, actor_noise=mode, normalize_observations="task") for mode in ("stored", "mean")
    )
    assert run.records[0].metrics["diagnostics/first_ratio_deviation"] < 1e-5
    assert not torch.equal(*(r.module.policy.actor.stack["head"].mu for r in (run, other)))


@pytest.mark.parametrize("kind", ["local", "weights"])
def test_noise_of_the_critic_and_normalised_observations_go_together(kind):
    noisy, plain = (
        fit({"total_env_steps": 128}, critic_noise=n, normalize_observations="task") for n in (kind, "mean")
    )
    assert not torch.equal(*(run.module.policy.critic.stack["head"].log_var for run in (noisy, plain)))
