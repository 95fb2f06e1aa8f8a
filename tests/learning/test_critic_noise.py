"""Which noise the critic learns under: that of its option, drawn for every minibatch."""

import dataclasses

import pytest
import torch
from helpers import collect, generator, inputs_of, make_policy, perturb, randn, update

from varshare_pl.learning import weight_noise as module
from varshare_pl.learning.weight_noise import make_critic_noise
from varshare_pl.networks.gaussian import LocalNoise
from varshare_pl.networks.network import tensors_of
from varshare_pl.networks.noise import local_noise
from varshare_pl.networks.noise import weight_noise as draw_weights
from varshare_pl.random import stream
from varshare_pl.sharing import Shared, VarShare

EPOCHS, MINIBATCHES = 3, 4
REPEATS = 300
NOISES = ("local", "weights")
mixes = pytest.mark.parametrize("mix", [{}, {"num_envs": 3, "task_assignment": "cycle"}], ids=["even", "ragged"])


def seen_by(critic_noise, seed=1, index=0, num_envs=10, **options):
    """The minibatches of an update, each with the noise of actor and critic."""
    policy = make_policy("ComplexCartPole")
    perturb(policy, 0.2)
    (rollout,) = collect(policy, "ComplexCartPole", num_envs, 24, **options)
    rollout = dataclasses.replace(rollout, index=index)
    choices = {"critic_noise": critic_noise, "seed": seed, "update_epochs": EPOCHS}
    seen = list(inputs_of(policy, rollout, MINIBATCHES, **choices))
    assert len(seen) == EPOCHS * MINIBATCHES
    return seen


def same(a, b):
    equal = [torch.equal(x, y) for x, y in zip(tensors_of(a), tensors_of(b), strict=True)]
    assert all(equal) or not any(equal)
    return all(equal)


@mixes
def test_local_noise_is_of_each_row_and_layer(mix):
    for batch, _, noise in seen_by("local", **mix):
        groups, rows = batch.weight.shape
        assert [eps.zeta.shape for eps in noise] == [(groups, rows, 8), (groups, rows, 8), (groups, rows, 1)]
        draws = torch.cat([eps.zeta.flatten() for eps in noise])
        assert len(draws.unique()) > 0.99 * len(draws)


def test_weight_noise_is_of_each_weight_and_task():
    for _, _, noise in seen_by("weights"):
        assert [eps.shape for eps in noise] == [(5, 8, 4), (5, 8, 8), (5, 1, 8)]


def test_the_mean_has_none():
    assert all(noise is None for _, _, noise in seen_by("mean"))
    assert make_critic_noise("local", make_policy("ComplexCartPole", Shared()).critic, 1) is None


@pytest.mark.parametrize("critic_noise", NOISES)
@mixes
def test_every_minibatch_has_noise_of_its_own(critic_noise, mix):
    of_minibatches = [noise for *_, noise in seen_by(critic_noise, **mix)]
    firsts = [tensors_of(noise)[0] for noise in of_minibatches]
    shapes = {first.shape for first in firsts}
    assert all(not torch.equal(a, b) for k, a in enumerate(firsts) for b in firsts[:k] if a.shape == b.shape)
    assert len(shapes) < len(firsts)


@pytest.mark.parametrize("critic_noise", NOISES)
def test_noise_hangs_on_the_seed_and_the_rollout_and_is_not_the_actors(critic_noise):
    _, actors, first = seen_by(critic_noise)[0]
    torch.manual_seed(5)
    assert same(first, seen_by(critic_noise)[0][2])
    assert not same(first, seen_by(critic_noise, seed=2)[0][2])
    assert not same(first, seen_by(critic_noise, index=1)[0][2])
    assert not torch.equal(tensors_of(first)[1], actors[1])


@pytest.mark.parametrize("critic_noise", [*NOISES, "mean"])
def test_the_actors_noise_is_left_as_it_is(critic_noise):
    layers, drawn = make_policy("ComplexCartPole").actor.layers(), stream(1, "weight_noise", 0)
    expected = [draw_weights(layer, drawn) for _, layer in layers]
    assert all(same(noise, expected) for _, noise, _ in seen_by(critic_noise))


def test_the_noise_reaches_the_critics_sigma_and_the_mean_does_not():
    """Without KL: under the mean nothing moves the critic's log variances."""
    moved = {}
    for critic_noise in (*NOISES, "mean"):
        policy = make_policy("ComplexCartPole")
        perturb(policy, 0.2)
        before = [layer.log_var.detach().clone() for _, layer in policy.critic.layers()]
        (rollout,) = collect(policy, "ComplexCartPole", 10, 24)
        update(policy, rollout, critic_noise=critic_noise, kl_weight=0.0)
        after = [layer.log_var for _, layer in policy.critic.layers()]
        moved[critic_noise] = [not torch.equal(a, b) for a, b in zip(after, before, strict=True)]
    assert moved == {"local": [True] * 3, "weights": [True] * 3, "mean": [False] * 3}


def test_processes_have_rows_of_their_own_and_weights_in_common(monkeypatch):
    """Their rows are different ones: the same noise on all would not be averaged out."""
    critic, drawn = make_policy("ComplexCartPole").critic, {}
    for rank in (0, 1):
        monkeypatch.setattr(module, "rank", lambda rank=rank: rank)
        for mode in NOISES:
            drawn[mode, rank] = tensors_of(make_critic_noise(mode, critic, 1).learning(2, 3, 5, 6))
    of_layers = zip(drawn["local", 0], drawn["local", 1], strict=True)
    assert not any(torch.equal(one, other) for one, other in of_layers)
    assert same(drawn["weights", 0], drawn["weights", 1])


def test_the_gradient_under_a_runs_noise_varies_as_under_independent_draws():
    """Of the value loss, summed over the 16 minibatches of a rollout: where noise repeats, its errors add up."""
    policy = make_policy("MirroredCartPole", VarShare(prior_scale=1.0), hidden_sizes=(4,))
    perturb(policy, 0.3)
    critic, tasks, rows = policy.critic, torch.arange(2), 4
    x, target = randn(2, rows, 4, dtype=torch.float32).repeat(1, 16, 1), randn(2, rows, seed=1).repeat(1, 16)
    of_run, fresh = make_critic_noise("local", critic, seed=1), generator(11)

    def independent():
        return [local_noise(layer, 2, rows, fresh) for _, layer in critic.layers()]

    def gradient(minibatches):
        """With the same rows in all 16, so that nothing but noise differs."""
        noise = [LocalNoise(torch.cat([eps.zeta for eps in layer], 1)) for layer in zip(*minibatches, strict=True)]
        loss = (policy.critic_outputs(tasks, noise, x) - target).square().mean()
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(critic.parameters()))])

    under_run, under_fresh = [], []
    for rollout in range(REPEATS):
        under_run.append(gradient([of_run.learning(rollout, step, 2, rows) for step in range(16)]))
        under_fresh.append(gradient([independent() for _ in range(16)]))
    variance, expected = (torch.stack(gradients).var(0).sum() for gradients in (under_run, under_fresh))
    assert float(variance / expected) == pytest.approx(1.0, abs=0.1)
