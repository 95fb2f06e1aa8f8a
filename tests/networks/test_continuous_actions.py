"""Gaussians over a Box, clipped and squashed, against torch.distributions in float64 and by hand."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from helpers import generator, make_policy, randn
from torch import distributions as torchs

from varshare_pl.errors import ConfigError, NonFiniteError
from varshare_pl.networks.actions import make_distribution
from varshare_pl.networks.groups import TaskGroups
from varshare_pl.networks.options import ActionOptions
from varshare_pl.types import EnvSpec

M = 3
LOW, HIGH = np.array([-2.0, 0.0, -0.5]), np.array([2.0, 0.25, 7.0])
BOX = spaces.Box(LOW, HIGH, dtype=np.float64)
FREE = spaces.Box(-np.inf, np.inf, (3,), np.float64)
squashes = pytest.mark.parametrize("bounds", ["clip", "tanh"])


def make(space=BOX, **options):
    return make_distribution(space, M, ActionOptions(**options)).double()


def drawn(shape=(6, 7), seed=0):
    """Parameters with means and log standard deviations of some size, and noise."""
    return torch.cat([2 * randn(*shape, 3, seed=seed), 0.4 * randn(*shape, 3, seed=seed + 1) - 0.3], -1), randn(
        *shape, 3, seed=seed + 2
    )


def reference(params, bounds):
    """The same distribution by torch, of what the env gets."""
    mean, log_std = params.chunk(2, -1)
    normal = torchs.Independent(torchs.Normal(mean, log_std.exp()), 1)
    if bounds == "clip":
        return normal
    low, high = torch.from_numpy(LOW), torch.from_numpy(HIGH)
    scaled = torchs.AffineTransform((low + high) / 2, (high - low) / 2, event_dim=1)
    return torchs.TransformedDistribution(normal, [torchs.TanhTransform(), scaled])


@squashes
def test_log_prob_equals_torch_distributions(bounds):
    distribution, (params, noise) = make(action_bounds=bounds), drawn()
    params.requires_grad_()
    actions = distribution.sample(params, noise).detach()
    log_prob, _ = distribution.log_prob_and_entropy(params, actions)
    expected = reference(params, bounds).log_prob(actions if bounds == "clip" else distribution.to_env(actions))
    torch.testing.assert_close(log_prob, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(distribution.log_prob(params, actions), log_prob)
    found, wanted = (torch.autograd.grad(value.sum(), params)[0] for value in (log_prob, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)


def test_entropy_equals_torch_distributions():
    params, _ = drawn()
    params.requires_grad_()
    _, entropy = make().log_prob_and_entropy(params, torch.zeros(6, 7, 3))
    torch.testing.assert_close(entropy, reference(params, "clip").entropy())
    found, expected = (
        torch.autograd.grad(value.sum(), params)[0] for value in (entropy, reference(params, "clip").entropy())
    )
    torch.testing.assert_close(found, expected)


def test_the_entropy_of_squashed_actions_is_that_of_many_draws():
    """And its gradient that of the same draws, which follow the parameters (reparameterisation)."""
    params = torch.tensor([0.3, -1.5, 0.0, -0.2, 0.1, -1.0], dtype=torch.float64, requires_grad=True)
    _, entropy = make(action_bounds="tanh").log_prob_and_entropy(params, torch.zeros(3))
    torch.manual_seed(3)
    many, actions = reference(params, "tanh"), reference(params, "tanh").rsample((400_000,))
    expected = -many.log_prob(actions).mean()
    torch.testing.assert_close(entropy, expected, rtol=0, atol=0.01)
    found, wanted = (torch.autograd.grad(value, params)[0] for value in (entropy, expected))
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.02)


@squashes
def test_kl_equals_torch_distributions(bounds):
    """What is done to the actions afterwards does not change it."""
    (old, _), (new, _) = drawn(), drawn(seed=5)
    expected = torchs.kl_divergence(reference(old, "clip"), reference(new, "clip"))
    distribution = make(action_bounds=bounds)
    torch.testing.assert_close(distribution.kl(old, new), expected)
    assert not distribution.kl(old, old).any()


@squashes
def test_samples_and_modes(bounds):
    distribution, (params, noise) = make(action_bounds=bounds), drawn()
    mean, log_std = params.chunk(2, -1)
    torch.testing.assert_close(
        distribution.sample(params, noise),
        torchs.Normal(mean, log_std.exp()).icdf(torchs.Normal(0.0, 1.0).cdf(noise)),
        rtol=1e-6,
        atol=1e-6,
    )
    assert torch.equal(distribution.mode(params), mean)
    standard = distribution.draw_noise(300, 300, generator())
    assert standard.shape == (300, 300, 3)
    assert float(standard.mean()) == pytest.approx(0.0, abs=0.01)
    assert float(standard.std()) == pytest.approx(1.0, abs=0.01)


def test_clipped_actions_reach_the_bounds_and_free_ones_stay():
    actions = torch.tensor([[-9.0, 0.1, 3.0], [9.0, 9.0, 9.0]], dtype=torch.float64)
    assert make().to_env(actions).tolist() == [[-2.0, 0.1, 3.0], [2.0, 0.25, 7.0]]
    free = make(FREE).to_env(actions)
    assert torch.equal(free, actions)
    assert free.data_ptr() != actions.data_ptr()  # envs may change theirs in place
    half = spaces.Box(np.array([-np.inf, 0.0, -1.0]), np.array([0.0, np.inf, 1.0]), dtype=np.float64)
    assert make(half).to_env(actions).tolist() == [[-9.0, 0.1, 1.0], [0.0, 9.0, 1.0]]


def test_squashed_actions_span_the_space():
    ends = torch.tensor([[-1e9] * 3, [1e9] * 3, [0.0] * 3], dtype=torch.float64)
    found = make(action_bounds="tanh").to_env(ends).numpy()
    np.testing.assert_allclose(found, [LOW, HIGH, (LOW + HIGH) / 2], rtol=0, atol=1e-15)


@squashes
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (1,), (3, 2), (2, 1, 2)], ids=str)
def test_envs_get_actions_of_their_space(bounds, dtype, shape):
    """Of float32 policies, whose 0.1 lies beyond that of float64."""
    space = spaces.Box(-0.1, 0.1, shape, dtype)
    distribution, size = make_distribution(space, M, ActionOptions(action_bounds=bounds)), math.prod(shape)
    params, noise = 5 * randn(4, 2 * size, dtype=torch.float32), randn(4, size, dtype=torch.float32)
    for actions in (distribution.sample(params, noise), distribution.mode(params)):
        assert actions.shape == (4, *shape)
        log_prob, entropy = distribution.log_prob_and_entropy(params, actions)
        assert log_prob.shape == entropy.shape == (4,)
        for action in distribution.to_env(actions).numpy():
            array = np.asarray(action)
            assert array.dtype == dtype
            assert space.contains(array)


def test_far_from_the_middle_squashed_actions_have_finite_probabilities():
    params = torch.tensor([[60.0] * 3 + [0.0] * 3], requires_grad=True)
    distribution = make_distribution(spaces.Box(-1.0, 1.0, (3,)), M, ActionOptions(action_bounds="tanh"))
    log_prob, entropy = distribution.log_prob_and_entropy(params, torch.full((1, 3), 61.0))
    (log_prob + entropy).sum().backward()
    # u = 61 has the slope 4 e^{-2u}; 0 is the mean's log density at one standard deviation
    expected = 3 * (-0.5 - 0.5 * math.log(2 * math.pi) + 122.0 - math.log(4.0))
    assert log_prob.item() == pytest.approx(expected, rel=1e-6)
    assert params.grad.isfinite().all()


@pytest.mark.parametrize("kind", ["task", "shared"])
def test_log_std_is_a_parameter(kind):
    distribution = make(log_std=kind, log_std_init=-0.75)
    assert distribution.log_std.shape == ((M, 3) if kind == "task" else (1, 3))
    assert (distribution.log_std == -0.75).all()
    with torch.no_grad():
        distribution.log_std.copy_(randn(*distribution.log_std.shape))
    for tasks in ([0, 1, 2], [0, 2], [1]):
        means = randn(len(tasks), 5, 3)
        params = distribution.params(means, distribution.prepare(torch.tensor(tasks)))
        mean, log_std = params.chunk(2, -1)
        assert torch.equal(mean, means)
        for g, task in enumerate(tasks):
            own = distribution.log_std[task if kind == "task" else 0]
            assert (log_std[g] == own).all()


def test_log_std_from_the_network_stays_within_its_bounds():
    distribution = make(log_std="network", log_std_init=-1.0, log_std_min=-2.0, log_std_max=0.5)
    assert not list(distribution.parameters())
    assert distribution.prepare(torch.arange(M)) is None
    outputs = torch.tensor([[1.0, 2.0, 3.0, 0.25, -50.0, 50.0]], dtype=torch.float64)
    assert distribution.params(outputs, None).tolist() == [[1.0, 2.0, 3.0, -0.75, -2.0, 0.5]]


def test_std_is_a_mean_over_dimensions():
    params = torch.tensor([[0.0, 0.0, math.log(2.0), math.log(4.0)]])
    assert float(make(spaces.Box(-1.0, 1.0, (2,))).std(params)) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"log_std": "network", "log_std_init": 3.0},
            "model.log_std_init: 3.0 is not allowed with model.log_std_min -5.0 and model.log_std_max 2.0; a number "
            "between them is",
        ),
        (
            {"log_std": "network", "log_std_min": 1.0, "log_std_max": -1.0},
            "model.log_std_init: 0.0 is not allowed with model.log_std_min 1.0 and model.log_std_max -1.0; a number "
            "between them is",
        ),
        (
            {"action_bounds": "tanh", "space": FREE},
            f"model.action_bounds: tanh is not allowed with the action space {FREE}, which has no bounds everywhere; "
            "clip is",
        ),
    ],
    ids=["init", "bounds", "tanh"],
)
def test_options_that_do_not_fit(options, text):
    with pytest.raises(ConfigError) as told:
        make(**options)
    assert str(told.value) == text


SPEC = EnvSpec("s", num_tasks=M, obs_shape=(2,), action_space=spaces.Box(-1.0, 1.0, (2,)))


@squashes
@pytest.mark.parametrize("kind", ["task", "shared", "network"])
def test_acting_and_learning_see_the_same_distributions(bounds, kind):
    policy = make_policy(SPEC, log_std=kind, action_bounds=bounds).double()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.3 * randn(*parameter.shape, seed=4))
    task, obs = torch.tensor([0, 2, 2, 1, 0]), randn(5, 2)
    groups = TaskGroups.from_rows(task, M)
    acted = policy.action_params(policy.prepare_actor(groups.group_task), obs, groups)
    learned = groups.ungroup(policy.actor_params(groups.group_task, None, groups.group(obs)))
    assert acted.shape == (5, 4)
    torch.testing.assert_close(acted, learned)
    act = policy.deterministic()(obs, task)
    mean = acted[:, :2].float()
    torch.testing.assert_close(act, mean.clamp(-1, 1) if bounds == "clip" else mean.tanh())


def test_an_action_that_is_no_number_is_one_line():
    policy = make_policy(SPEC)
    with torch.no_grad():
        policy.actor.stack["head"].mu[1] = torch.nan
    act, obs = policy.deterministic(), torch.ones(2, 2)
    assert act(obs, torch.tensor([0, 2])).isfinite().all()
    with pytest.raises(NonFiniteError, match=r"^an action of task 1 is not finite; .* too large, or no numbers$"):
        act(obs, torch.tensor([0, 1]))


def test_gymnasium_takes_what_it_gets():
    env = gym.make("Pendulum-v1")
    env.reset(seed=1)
    distribution = make_distribution(env.action_space, 1, ActionOptions())
    actions = distribution.to_env(distribution.sample(torch.tensor([[5.0, 0.0]]), torch.ones(1, 1)))
    assert env.action_space.contains(actions.numpy()[0])
    env.step(actions.numpy()[0])
