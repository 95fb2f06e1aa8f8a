import pytest
import torch
from helpers import METHODS, generator, make_policy, perturb, randn
from torch import nn

from varshare_pl.errors import ConfigError
from varshare_pl.networks.actor_critic import ActorCritic
from varshare_pl.random import array_stream
from varshare_pl.sharing import LocalNoise, Shared
from varshare_pl.types import EnvSpec

SPEC = EnvSpec(suite="s", num_tasks=3, obs_shape=(2, 2), num_actions=3, rollout_rows=1, num_rollouts=1)
TASK = torch.tensor([2, 0, 1, 2, 2, 0])


@pytest.fixture(params=METHODS)
def policy(request):
    policy = ActorCritic(SPEC, METHODS[request.param](), (8, 6)).double()
    perturb(policy)
    return policy


@pytest.mark.parametrize("activation", ["tanh", "relu", "elu", "silu"])
def test_shared_torso_equals_a_plain_network(activation):
    policy = ActorCritic(SPEC, Shared(), (8, 6), activation).double()
    perturb(policy)
    function = {"tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU, "silu": nn.SiLU}[activation]
    x = randn(6, 4)
    for torso, outputs in ((policy.actor, 3), (policy.critic, 1)):
        plain = nn.Sequential(nn.Linear(4, 8), function(), nn.Linear(8, 6), function(), nn.Linear(6, outputs)).double()
        for (_, layer), linear in zip(torso.layers(), (plain[0], plain[2], plain[4]), strict=True):
            linear.load_state_dict(layer.state_dict())
        torch.testing.assert_close(torso(x, TASK), plain(x))


def test_mixed_equals_per_task(policy):
    x = randn(6, 4)
    noise = policy.actor.draw_weight_noise(generator(1))
    output = policy.actor(x, TASK, noise)
    for m in range(3):
        torch.testing.assert_close(output[m == TASK], policy.actor(x[m == TASK], TASK[m == TASK], noise))


def test_each_layer_takes_its_own_noise():
    policy = make_policy("MirroredCartPole").double()
    perturb(policy)
    x, task = randn(3, 4), torch.tensor([0, 1, 1])
    noise = policy.actor.draw_weight_noise(generator(1))
    partly = [[None if i == j else eps for j, eps in enumerate(noise)] for i in range(3)]
    outputs = [policy.actor(x, task, some) for some in (noise, *partly)]
    for a in range(4):
        for b in range(a):
            assert not torch.allclose(outputs[a], outputs[b])


def test_local_noise_goes_through_all_layers():
    policy = make_policy("MirroredCartPole").double()
    perturb(policy)
    group_task, x = torch.tensor([0, 1]), randn(2, 5, 4)
    noise = policy.critic.draw_local_noise(2, 5, array_stream(2, "a"))
    assert all(isinstance(n, LocalNoise) for n in noise)
    prepared = policy.critic.prepare(group_task, noise)
    by_hand = x
    for i, (_, layer) in enumerate(policy.critic.layers()):
        by_hand = layer.compute(layer.prepare(group_task, noise[i]), by_hand if i == 0 else torch.tanh(by_hand))
    torch.testing.assert_close(policy.critic.compute(prepared, x), by_hand)
    assert not torch.allclose(by_hand, policy.critic.compute(policy.critic.prepare(group_task), x))


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
        return torch.cat([p.flatten() for p in ActorCritic(SPEC, METHODS[method](), (8, 6), seed=seed).parameters()])

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
        ActorCritic(SPEC, Shared(), sizes)
