"""Actor and critic without normalisation, which has tests of its own."""

import pytest
import torch
from gymnasium import spaces
from helpers import METHODS, make_policy, perturb, randn, weight_noises

from varshare_pl.errors import ConfigError
from varshare_pl.networks.groups import TaskGroups
from varshare_pl.sharing import Shared
from varshare_pl.types import EnvSpec

SPEC = EnvSpec("s", num_tasks=3, obs_shape=(2, 2), action_space=spaces.Discrete(3))
TASK = torch.tensor([2, 0, 1, 2, 2, 0])


@pytest.fixture(params=METHODS)
def policy(request):
    policy = make_policy(SPEC, METHODS[request.param](), hidden_sizes=(8, 6)).double()
    perturb(policy)
    return policy


def test_observations_are_flattened_and_of_the_weights_type():
    policy, obs = make_policy(SPEC), randn(6, 2, 2)
    encoded = policy.encode(obs, TASK)
    assert torch.equal(encoded, obs.flatten(1).float())
    assert policy.double().encode(obs.float(), TASK).dtype == torch.float64


def test_acting_is_the_actors_forward_over_mixed_rows(policy):
    obs, groups = randn(6, 2, 2), TaskGroups.from_rows(TASK, 3)
    noise = weight_noises(policy.actor)
    for eps in (None, noise):
        params = policy.action_params(policy.prepare_actor(groups.group_task, eps), obs, groups)
        torch.testing.assert_close(params, policy.actor(obs.flatten(1), TASK, eps))


def test_the_critics_outputs_are_its_forward_over_mixed_rows(policy):
    x, groups = randn(6, 4), TaskGroups.from_rows(TASK, 3)
    for noise in (None, weight_noises(policy.critic)):
        outputs = groups.ungroup(policy.critic_outputs(groups.group_task, noise, groups.group(x)))
        torch.testing.assert_close(outputs, policy.critic(x, TASK, noise).squeeze(-1))
        assert torch.equal(policy.values(outputs, TASK), outputs)


def test_every_parameter_is_trained_with_one_network(policy):
    found = [id(p) for name, _ in policy.networks() for p in policy.parameters_of(name)]
    assert sorted(found) == sorted(id(p) for p in policy.parameters())


def test_kl_and_count_are_sums_over_both_networks():
    policy = make_policy("ComplexCartPole").double()
    perturb(policy)
    layers = [layer for *_, layer in policy.layers()]
    assert [(network, name) for network, name, _ in policy.layers()] == [
        (network, name) for network in ("actor", "critic") for name in ("layer_1", "layer_2", "head")
    ]
    torch.testing.assert_close(policy.kl(), torch.stack([layer.kl() for layer in layers]).sum(0))
    assert policy.kl().shape == (5,)
    assert policy.num_variational == sum(layer.theta.numel() for layer in layers)
    assert len(policy.actor.log_var_parameters()) == 3


def test_initial_weights_hang_on_the_seed_only():
    def weights(seed, global_seed=0, method="varshare"):
        torch.manual_seed(global_seed)
        return torch.cat([p.flatten() for p in make_policy(SPEC, METHODS[method](), seed).parameters()])

    for method in METHODS:
        assert torch.equal(weights(1, 0, method), weights(1, 1, method))
        assert not torch.equal(weights(1, 0, method), weights(2, 0, method))


def test_actor_and_critic_start_apart():
    policy = make_policy("ComplexCartPole")
    assert not torch.allclose(policy.actor.stack["layer_1"].theta, policy.critic.stack["layer_1"].theta)


def test_gains_scale_their_layers():
    gains = {"hidden_gain": 3.0, "actor_head_gain": 0.5, "critic_head_gain": 2.0}
    policy = make_policy("ComplexCartPole", **gains)
    expected = {"actor/layer_1": 3, "actor/layer_2": 3, "actor/head": 0.5}
    expected |= {"critic/layer_1": 3, "critic/layer_2": 3, "critic/head": 2}
    for network, name, layer in policy.layers():
        norms = torch.linalg.svdvals(layer.theta)
        torch.testing.assert_close(norms, torch.full_like(norms, expected[f"{network}/{name}"]))


def test_methods_start_as_the_same_function():
    """θ is drawn from one stream, so that VarShare and a shared net differ by the method alone."""
    x, task = randn(6, 4, dtype=torch.float32), torch.tensor([0, 1, 0, 1, 1, 0])
    a, b = (make_policy("MirroredCartPole", METHODS[name]()).actor(x, task) for name in ("varshare", "shared"))
    torch.testing.assert_close(a, b)


def test_deterministic_is_the_mean_and_the_mode(policy):
    obs = randn(6, 2, 2)
    act = policy.deterministic()
    expected = policy.actor(obs.flatten(1), TASK).argmax(-1)
    assert torch.equal(act(obs, TASK), expected)
    assert torch.equal(act(obs[:1], TASK[:1]), expected[:1])  # a single row, the other tasks absent
    assert act(obs, TASK).dtype == torch.int64


def test_shared_only_sets_the_residuals_to_zero():
    policy = make_policy("MirroredCartPole").double()
    perturb(policy, 1.0)
    obs, task = randn(50, 4), torch.arange(50) % 2
    shared, full = policy.deterministic(shared_only=True)(obs, task), policy.deterministic()(obs, task)
    assert not torch.equal(shared, full)
    with torch.no_grad():
        for _, layer in policy.actor.layers():
            layer.theta += layer.mu.mean(0)
            layer.mu.zero_()
    assert torch.equal(policy.deterministic()(obs, task), shared)


@pytest.mark.parametrize("sizes", [(), (0,), (8, -1)])
def test_bad_hidden_sizes_raise(sizes):
    with pytest.raises(ConfigError, match="hidden_sizes"):
        make_policy(SPEC, Shared(), hidden_sizes=sizes)
