"""The encoder of images against plain convolutions, in every method's networks."""

import pytest
import torch
from gymnasium.spaces import Discrete
from torch import nn

from varshare_pl.errors import ConfigError
from varshare_pl.learning.optimizer import build_optimizer
from varshare_pl.learning.options import OptimizerOptions
from varshare_pl.networks.actor_critic import ActorCritic
from varshare_pl.networks.encoder import ImageEncoder, ImageSpec
from varshare_pl.networks.groups import TaskGroups
from varshare_pl.networks.options import NetworkOptions, NormalisationOptions
from varshare_pl.networks.size import network_sizes, shared_parameters
from varshare_pl.networks.wrapped import EncodedNetwork, MaskedNetwork
from varshare_pl.sharing import Independent, Shared, VarShare, method_names
from varshare_pl.types import EnvSpec

AS_THEY_ARE = NormalisationOptions(normalize_observations="none")
VIEW = EnvSpec("x", 3, (7, 7, 3), Discrete(7), "uint8", obs_scale=0.1)
SMALL = NetworkOptions(hidden_sizes=(8,))


def plain(encoder: ImageEncoder, task: int) -> nn.Sequential:
    """The same net of torch's own modules."""
    modules: list[nn.Module] = []
    for sizes, layer in zip(encoder.spec.layers, encoder.stack, strict=True):
        net = layer.weight[task if encoder.per_task else 0]
        conv = nn.Conv2d(net.shape[1], sizes.channels, sizes.side, sizes.stride)
        conv.weight.data, conv.bias.data = net.data, layer.bias[task if encoder.per_task else 0].data
        modules += [conv, nn.ReLU()]
    return nn.Sequential(*modules, nn.Flatten())


@pytest.mark.parametrize("per_task", [False, True])
@pytest.mark.parametrize("shape", [(7, 7, 3), (9, 5, 4), (84, 84, 3), (4, 84, 84), (36, 40, 1)])
def test_it_is_a_net_of_torchs_convolutions(shape, per_task):
    encoder = ImageEncoder(ImageSpec(shape, 3), torch.Generator().manual_seed(0), per_task)
    groups = torch.tensor([0, 2])
    x = torch.rand(2, 5, torch.Size(shape).numel())
    features = encoder.compute(encoder.prepare(groups), x)
    assert features.shape == (2, 5, encoder.spec.num_features)
    for row, task in enumerate(groups.tolist()):
        images = x[row].view(5, *shape)
        images = images if shape[0] < shape[-1] else images.permute(0, 3, 1, 2)
        torch.testing.assert_close(features[row], plain(encoder, task)(images), rtol=1e-4, atol=1e-5)


def test_the_nets_are_those_of_the_papers():
    assert ImageSpec((7, 7, 3), 1).num_features == 64 * 4 * 4
    assert ImageSpec((84, 84, 4), 1).num_features == 64 * 7 * 7


@pytest.mark.parametrize("method", sorted(method_names()))
def test_every_method_reads_encoded_images(method):
    policy = ActorCritic(VIEW, method_names()[method](), SMALL, AS_THEY_ARE)
    assert isinstance(policy.actor, EncodedNetwork)
    assert isinstance(policy.critic, EncodedNetwork)
    obs = torch.randint(0, 11, (9, 7, 7, 3), dtype=torch.uint8)
    task = torch.tensor([0, 0, 1, 1, 2, 2, 0, 1, 2])
    groups = TaskGroups.from_rows(task, 3)
    rows = policy.encode(obs, task)
    torch.testing.assert_close(rows, obs.flatten(1) / 10)
    params = policy.actor.compute(policy.actor.prepare(groups.group_task), groups.group(rows))
    acting = policy.action_params(policy.prepare_actor(groups.group_task), obs, groups)
    torch.testing.assert_close(groups.ungroup(params), acting)
    inner = policy.actor.network
    per_task = method == "independent"
    features = torch.stack(
        [plain(policy.actor.encoder, t)(obs[[k]].permute(0, 3, 1, 2) / 10)[0] for k, t in enumerate(task.tolist())]
    )
    torch.testing.assert_close(inner(features, task), acting, rtol=1e-3, atol=1e-5)
    assert policy.actor.encoder.per_task == per_task

    values = policy.critic_outputs(groups.group_task, None, groups.group(rows))
    (params.square().sum() + values.square().sum()).backward()
    optimizer = build_optimizer(policy, OptimizerOptions())
    for name, network in policy.networks():
        mine = {id(p) for p in optimizer.networks[name]}
        for parameter in network.encoder.parameters():
            assert id(parameter) in mine
            assert parameter.grad is not None
            assert parameter.grad.abs().sum() > 0


def test_shared_only_has_one_net_of_images_for_all_tasks():
    policy = ActorCritic(VIEW, Independent(), SMALL, AS_THEY_ARE)
    obs = torch.randint(0, 11, (1, 7, 7, 3), dtype=torch.uint8).expand(3, -1, -1, -1)
    task = torch.arange(3)
    groups = TaskGroups.from_rows(task, 3)
    own, shared = (
        policy.action_params(policy.prepare_actor(groups.group_task, shared_only=only), obs, groups)
        for only in (False, True)
    )
    assert not torch.allclose(own[0], own[1])
    torch.testing.assert_close(shared[0], shared[1])
    torch.testing.assert_close(shared[0], shared[2])


def test_what_is_shared_and_how_large_it_is():
    shared = ActorCritic(VIEW, Shared(), SMALL)
    convs = sum(p.numel() for p in shared.actor.encoder.parameters())
    assert convs == 3 * 16 * 4 + 16 + 16 * 32 * 4 + 32 + 32 * 64 * 4 + 64
    linear = 1024 * 8 + 8 + 8 * 7 + 7
    flops = 2 * (36 * 16 * 12 + 25 * 32 * 64 + 16 * 64 * 128) + 2 * (1024 * 8 + 8 * 7)
    assert network_sizes(shared, VIEW.obs_size)["actor"] == (convs + linear, convs + linear, flops)
    alone = ActorCritic(VIEW, Independent(), SMALL)
    assert network_sizes(alone, VIEW.obs_size)["actor"] == (3 * (convs + linear), convs + linear, flops)
    assert shared_parameters(alone, "actor") == []
    ours = shared_parameters(ActorCritic(VIEW, VarShare(), SMALL), "actor")
    assert sum(p.numel() for p in ours) >= convs


def test_what_is_encoded():
    floats = EnvSpec("x", 1, (7, 7, 3), Discrete(2))
    flat = EnvSpec("x", 1, (7,), Discrete(2), "uint8", obs_scale=0.5)

    def encoded(spec, encoder):
        return isinstance(ActorCritic(spec, Shared(), NetworkOptions(encoder=encoder)).actor, EncodedNetwork)

    assert [encoded(VIEW, name) for name in ("auto", "cnn", "none")] == [True, True, False]
    assert [encoded(floats, name) for name in ("auto", "cnn", "none")] == [False, True, False]
    assert [encoded(flat, name) for name in ("auto", "none")] == [False, False]
    with pytest.raises(ConfigError, match=r"model\.encoder: cnn is not allowed for observations of shape \(7,\)"):
        encoded(flat, "cnn")
    with pytest.raises(ConfigError, match=r"shape \(3, 9, 3\); images .* sides of at least 4"):
        encoded(EnvSpec("x", 1, (3, 9, 3), Discrete(2), "uint8"), "cnn")


@pytest.mark.parametrize(
    ("spec", "encoder", "scope", "normalised"),
    [
        (VIEW, "auto", "auto", False),
        (VIEW, "cnn", "auto", False),
        (VIEW, "none", "auto", True),  # read as a vector, of which each number has its own meaning
        (VIEW, "auto", "shared", True),
        (EnvSpec("x", 1, (7, 7, 3), Discrete(2)), "cnn", "auto", True),  # floats, of which no largest value is known
        (EnvSpec("x", 1, (7,), Discrete(2), "uint8", obs_scale=0.1), "auto", "auto", True),
    ],
)
def test_images_of_bytes_are_scaled_and_not_normalised_unless_that_is_wanted(spec, encoder, scope, normalised):
    scopes = NormalisationOptions(normalize_observations=scope)
    policy = ActorCritic(spec, Shared(), NetworkOptions(hidden_sizes=(8,), encoder=encoder), scopes)
    assert (policy.observation_moments is not None) == normalised
    if not normalised:
        obs = torch.randint(0, 11, (5, *spec.obs_shape), dtype=torch.uint8)
        torch.testing.assert_close(policy.encode(obs, torch.zeros(5, dtype=torch.int64)), obs.flatten(1) / 10)


def test_normalised_bytes_are_not_scaled_as_well():
    policy = ActorCritic(VIEW, Shared(), SMALL, NormalisationOptions(normalize_observations="task"))
    obs, task = torch.randint(0, 11, (30, 7, 7, 3), dtype=torch.uint8), torch.arange(30) % 3
    policy.observation_moments.update(obs.flatten(1), task)
    rows = policy.encode(obs, task)
    of_one = obs[task == 1].flatten(1).double()
    expected = (of_one - of_one.mean(0)) / of_one.std(0, correction=0).clamp_min(1e-4)
    torch.testing.assert_close(rows[task == 1].double(), expected, rtol=1e-4, atol=1e-4)
    assert policy.obs_dtype == torch.uint8


def test_a_task_never_takes_an_action_that_it_does_not_have():
    spec = EnvSpec("x", 2, (4,), Discrete(3), action_counts=(2, 3))
    policy = ActorCritic(spec, Shared(), SMALL)
    assert isinstance(policy.actor, MaskedNetwork)
    obs, task = torch.randn(400, 4), torch.arange(400) % 2
    groups = TaskGroups.from_rows(task, 2)
    params = policy.action_params(policy.prepare_actor(groups.group_task), obs, groups)
    noise = policy.distribution.draw_noise(1, 400, torch.Generator().manual_seed(0))[0]
    actions = policy.distribution.sample(params, noise)
    assert set(actions[task == 0].tolist()) == {0, 1}
    assert set(actions[task == 1].tolist()) == {0, 1, 2}
    free = policy.actor.network(obs, task)
    log_prob, entropy = policy.distribution.log_prob_and_entropy(params, actions)
    two = torch.distributions.Categorical(logits=free[task == 0, :2])
    torch.testing.assert_close(log_prob[task == 0], two.log_prob(actions[task == 0]))
    torch.testing.assert_close(entropy[task == 0], two.entropy())
    three = torch.distributions.Categorical(logits=free[task == 1])
    torch.testing.assert_close(entropy[task == 1], three.entropy())
    entropy.sum().backward()
    assert all(p.grad.isfinite().all() for p in policy.actor.parameters())
