"""Networks with normalised observations and rescaled outputs, of every method, through every way in."""

import pytest
import torch
from helpers import collect, fit, generator, make_policy, perturb, randn

from varshare_pl.gradients import accumulate
from varshare_pl.learning.acting import Behaviour
from varshare_pl.learning.optimizer import build_optimizer
from varshare_pl.networks.popart import CLIP, Wrapper
from varshare_pl.networks.size import network_sizes, parameter_rows
from varshare_pl.random import array_stream
from varshare_pl.sharing import TaskNetwork, VarShare, method_names

METHODS = {name: cls for name, cls in method_names().items() if cls.__module__.startswith("varshare_pl.")}
SUITE = "ComplexCartPole"
OPTIONS = {"normalize_observations": True, "normalize_returns": "popart"}
TASK = torch.tensor([2, 0, 3, 2, 4, 1, 4])


def normalised(method="varshare", seed=3):
    """A policy with moments that are not 0 and 1, and one without, of the same weights."""
    with_moments, plain = (make_policy(SUITE, METHODS[method](), **chosen) for chosen in (OPTIONS, {}))
    perturb(plain)
    for torso, own in ((with_moments.actor.network, plain.actor), (with_moments.critic.network.network, plain.critic)):
        torso.load_state_dict(own.state_dict())
    moments = with_moments.observation_moments
    task = torch.arange(5).repeat(20)
    moments.update(randn(100, 4, seed=seed) * (task + 1.0)[:, None] + task[:, None], task)
    return with_moments, plain


def by_hand(policy, x, task):
    mean, deviation = policy.observation_moments.mean[task], policy.observation_moments.variance[task].sqrt()
    return ((x - mean) / deviation).clamp(-CLIP, CLIP)


@pytest.mark.parametrize("method", METHODS)
def test_networks_read_normalised_observations(method):
    policy, plain = normalised(method)
    x = 20.0 * randn(7, 4, dtype=torch.float32)
    normal = by_hand(policy, x, TASK)
    assert (normal.abs() == CLIP).any()
    assert (normal.abs() < CLIP).any()
    for name in ("actor", "critic"):
        torch.testing.assert_close(getattr(policy, name)(x, TASK), getattr(plain, name)(normal, TASK))


@pytest.mark.parametrize("tasks", [range(5), (0, 3)], ids=["all", "some"])
@pytest.mark.parametrize("name", ["actor", "critic"])
def test_gradients_by_hand_are_autograds(name, tasks):
    policy = normalised()[0].double()
    torso, group_task = getattr(policy, name), torch.tensor(list(tasks))
    if name == "critic":
        torso.rescale(torch.linspace(0.5, 2.0, 5), torch.linspace(-1.0, 1.0, 5))
    x, noise = 3.0 * randn(len(group_task), 4, 4), torso.draw_weight_noise(generator(1))
    output = torso.compute(torso.prepare(group_task, noise), x)
    seed = randn(*output.shape, seed=5)
    (output * seed).sum().backward()
    expected = [torch.zeros_like(p) if p.grad is None else p.grad for p in torso.parameters()]
    for parameter in torso.parameters():
        parameter.grad = torch.zeros_like(parameter)
    found, pullback = torso.with_pullback(group_task, noise, x)
    assert torch.equal(found, output)
    accumulate(pullback(seed))
    for parameter, gradient in zip(torso.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-9, atol=1e-11)


def test_wrappers_hand_on_all_that_a_network_can_do():
    policy, plain = normalised()
    draws = [
        [
            torso.draw_flipout_noise(5, 3, generator(1), array_stream(1, "a")),
            torso.draw_local_noise(5, 3, array_stream(1, "a")),
            torso.local_noise_sizes(),
        ]
        for torso in (policy.critic, plain.critic)
    ]
    assert str(draws[0]) == str(draws[1])
    assert draws[0][2] == [8, 8, 1]


def test_the_controller_and_absorption_reach_a_network_behind_a_wrapper():
    method = VarShare(noise_controller=True, absorption=1.0)
    policy = make_policy(SUITE, method, normalize_observations=True, normalize_returns="popart")
    perturb(policy)
    for _, torso in policy.networks():
        torso.after_update(0)
        assert 0 < torso.measures()["sharing/noise_ratio"] < float("inf")
        assert all(layer.mu.mean(0).abs().max() < 1e-6 for _, layer in torso.layers())


@pytest.mark.parametrize("sharing", [VarShare(), VarShare(rank=2), VarShare(task_embedding=3)], ids=["", "rank", "e"])
def test_stored_noise_reaches_a_network_behind_a_wrapper(sharing):
    policy = make_policy(SUITE, sharing, normalize_observations=True)
    perturb(policy)
    x, tasks = randn(5, 3, 4, dtype=torch.float32), torch.arange(5)
    first, second = (policy.actor.draw_local_noise(5, 3, array_stream(seed, "a")) for seed in (1, 2))
    outputs = [policy.actor.compute(policy.actor.prepare(tasks, noise), x) for noise in (first, second)]
    exchanged = policy.actor.with_local_noise(policy.actor.prepare(tasks, first), second)
    torch.testing.assert_close(policy.actor.compute(exchanged, x), outputs[1])
    assert not torch.allclose(*outputs)


@pytest.mark.parametrize("mode", ["rollout", "mean"])
def test_acting_reads_normalised_observations(mode):
    policy, plain = normalised()
    (rollout,) = collect(policy, SUITE, 5, 20, mode=mode)
    behaviour = Behaviour(policy, mode, 1, 0, torch.device("cpu"))
    normal = by_hand(policy, rollout.obs.flatten(0, 1), rollout.task.flatten())
    params = plain.actor(normal, rollout.task.flatten(), behaviour._noise)
    torch.testing.assert_close(rollout.dist_params.flatten(0, 1), params, rtol=1e-5, atol=1e-6)


def test_the_evaluated_policy_reads_normalised_observations():
    policy, plain = normalised()
    x = 3.0 * randn(7, 4, dtype=torch.float32)
    for shared_only in (False, True):
        expected = plain.deterministic(shared_only)(by_hand(policy, x, TASK), TASK)
        assert torch.equal(policy.deterministic(shared_only)(x, TASK), expected)


@pytest.mark.parametrize("method", METHODS)
def test_a_rescaled_output_is_rescaled(method):
    policy, _ = normalised(method)
    policy, x = policy.double(), randn(7, 4)
    before = policy.critic(x, TASK).squeeze(-1)
    ratio, offset = torch.rand(5, generator=generator(1)).double() + 0.5, randn(5)
    for _ in range(2):
        policy.critic.rescale(ratio, offset)
        before = ratio[TASK] * before + offset[TASK]
    torch.testing.assert_close(policy.critic(x, TASK).squeeze(-1), before, rtol=1e-12, atol=1e-12)


def test_noise_and_kl_are_those_of_the_network_inside():
    policy, plain = normalised()
    torch.testing.assert_close(policy.kl(), plain.kl())
    assert policy.num_variational == plain.num_variational
    group_task, x = torch.tensor([0, 3]), randn(2, 6, 4, dtype=torch.float32)
    task = group_task.repeat_interleave(6)
    normal = by_hand(policy, x.flatten(0, 1), task).view_as(x)
    noises = [[network.critic.draw_local_noise(2, 6, array_stream(2, "a")) for network in (policy, plain)]]
    noises += [[network.critic.draw_weight_noise(generator(1)) for network in (policy, plain)]]
    for own, other in noises:
        output = policy.critic.compute(policy.critic.prepare(group_task, own), x)
        torch.testing.assert_close(output, plain.critic.compute(plain.critic.prepare(group_task, other), normal))


def test_scale_and_shift_are_trained_with_the_critic_and_counted_once_a_task():
    policy, plain = normalised()
    optimizer = build_optimizer(policy, 1e-3, 1e-3, None, 1e-5, 1e-8)
    assert [group["name"] for group in optimizer.param_groups] == [
        "actor",
        "actor_log_var",
        "critic",
        "critic_log_var",
    ]
    critic = {id(p) for p in policy.critic.parameters()}
    assert {id(policy.critic.scale), id(policy.critic.shift)} <= critic
    sizes, others = network_sizes(policy, 4), network_sizes(plain, 4)
    assert sizes["actor"] == others["actor"]
    assert sizes["critic"].stored == others["critic"].stored + 10
    assert sizes["critic"].active == others["critic"].active + 2
    names = {(row.network, row.name) for row in parameter_rows(policy)}
    assert names == {(row.network, row.name) for row in parameter_rows(plain)} | {
        ("critic", "scale"),
        ("critic", "shift"),
    }


def test_nothing_is_there_unless_asked_for():
    plain = make_policy(SUITE, VarShare())
    assert not [name for name in plain.state_dict() if "moments" in name or "network" in name]
    assert plain.observation_moments is plain.return_moments is plain.reward_moments is None


def test_a_wrapper_passes_on_all_that_a_network_offers():
    """A method that it does not pass on would do nothing, silently."""
    offered = {name for name, value in vars(TaskNetwork).items() if callable(value) and not name.startswith("_")}
    assert {"after_update", "measures", "kl"} <= offered
    # These are what a wrapper is about.
    assert offered - vars(Wrapper).keys() == {"compute", "forward", "with_pullback"}


def test_stored_noise_goes_through_a_wrapper():
    """What acts is what the update computes again: the ratio starts at 1, and there is noise."""
    run = fit({"total_env_steps": 128}, actor_noise="stored", normalize_observations=True)
    assert run.records[0].metrics["diagnostics/first_ratio_deviation"] < 1e-5
    other = fit({"total_env_steps": 128}, actor_noise="mean", normalize_observations=True)
    assert not torch.equal(
        run.module.policy.actor.network.stack["head"].mu, other.module.policy.actor.network.stack["head"].mu
    )


@pytest.mark.parametrize("kind", ["local", "flipout"])
def test_noise_of_the_critic_goes_through_a_wrapper(kind):
    noisy, plain = (fit({"total_env_steps": 128}, critic_noise=n, normalize_observations=True) for n in (kind, "mean"))
    weights = [run.module.policy.critic.network.stack["head"].log_var for run in (noisy, plain)]
    assert not torch.equal(*weights)


def test_a_wrapped_network_acts_between_rollouts():
    policy = make_policy(SUITE, VarShare(absorption=1.0, noise_controller=True), **OPTIONS)
    perturb(policy)
    for _, torso in policy.networks():
        torso.after_update(0)
        assert torso.measures().keys() == {"sharing/noise_ratio"}
    for *_, layer in policy.layers():
        torch.testing.assert_close(layer.mu.mean(0), torch.zeros_like(layer.theta))
