"""Which noise the critic learns under: that of its option, drawn for every minibatch."""

import dataclasses

import pytest
import torch
from helpers import collect, make_policy, perturb
from varshare_pl.ppo.objective import Objective
from varshare_pl.ppo.step import GradientStep

from varshare_pl.learning.optimizer import build_optimizer
from varshare_pl.ppo.update import UpdateOptions, build_rows, update
from varshare_pl.random import stream
from varshare_pl.sharing import FlipoutNoise, LocalNoise

EPOCHS, MINIBATCHES = 3, 4
OPTIONS = UpdateOptions(
    epochs=EPOCHS,
    num_minibatches=MINIBATCHES,
    gamma=0.9,
    gae_lambda=0.8,
    advantage_norm="task",
    actor_noise="rollout",
    critic_noise="local",
    target_kl=None,
    seed=1,
)


class Watched(Objective):
    """Keeps what it is asked for."""

    def with_pullback(self, policy, batch, actor_noise, critic_noise):
        object.__setattr__(self, "seen", [*getattr(self, "seen", []), (batch, actor_noise, critic_noise)])
        return super().with_pullback(policy, batch, actor_noise, critic_noise)


def seen_by(critic_noise, seed=1, index=0, num_envs=10, **options):
    """The minibatches of an update, each with the noise of actor and critic."""
    policy = make_policy("ComplexCartPole")
    perturb(policy, 0.2)
    (rollout,) = collect(policy, "ComplexCartPole", num_envs, 24, **options)
    rollout = dataclasses.replace(rollout, index=index)
    choices = dataclasses.replace(OPTIONS, critic_noise=critic_noise, seed=seed)
    objective = Watched(clip_range=0.2, value_clip_range=None, value_coef=0.5, entropy_coef=0.01, kl_weight=0.1)
    step = GradientStep(policy, objective, build_optimizer(policy, 3e-3, 1e-3, None, 1e-5, 1e-8), 0.5)
    update(policy, *build_rows(policy, rollout, choices), index, objective, choices, step)
    assert len(objective.seen) == EPOCHS * MINIBATCHES
    return objective.seen


def tensors(noise):
    return [
        torch.cat([t.flatten() for t in eps]) if isinstance(eps, LocalNoise | FlipoutNoise) else eps for eps in noise
    ]


def same(a, b):
    pairs = list(zip(tensors(a), tensors(b), strict=True))
    equal = [torch.equal(x, y) for x, y in pairs]
    assert all(equal) or not any(equal)
    return all(equal)


@pytest.mark.parametrize("mix", [{}, {"num_envs": 3, "task_assignment": "cycle"}], ids=["even", "ragged"])
def test_local_noise_is_of_each_row_and_layer(mix):
    for batch, _, noise in seen_by("local", **mix):
        groups, rows = batch.weight.shape
        assert [eps.zeta.shape for eps in noise] == [(groups, rows, 8), (groups, rows, 8), (groups, rows, 1)]
        draws = torch.cat([eps.zeta.flatten() for eps in noise])
        assert len(draws.unique()) > 0.99 * len(draws)


def test_weight_noise_is_of_each_weight_and_task():
    for _, _, noise in seen_by("weights"):
        assert [eps.shape for eps in noise] == [(5, 8, 4), (5, 8, 8), (5, 1, 8)]


def test_flipout_is_a_draw_of_each_weight_and_task_with_signs_of_each_row():
    for (batch, _, noise), (_, _, weights) in zip(seen_by("flipout"), seen_by("weights"), strict=True):
        assert [eps.eps.shape for eps in noise] == [(5, 8, 4), (5, 8, 8), (5, 1, 8)]
        assert all(torch.equal(eps.eps, weight) for eps, weight in zip(noise, weights, strict=True))
        sides = [(eps.sign_in.shape, eps.sign_out.shape) for eps in noise]
        rows = tuple(batch.weight.shape)
        assert sides == [((*rows, 4), (*rows, 8)), ((*rows, 8), (*rows, 8)), ((*rows, 8), (*rows, 1))]


def test_the_mean_has_none():
    assert all(noise is None for _, _, noise in seen_by("mean"))


@pytest.mark.parametrize("critic_noise", ["local", "flipout", "weights"])
@pytest.mark.parametrize("mix", [{}, {"num_envs": 3, "task_assignment": "cycle"}], ids=["even", "ragged"])
def test_every_minibatch_has_noise_of_its_own(critic_noise, mix):
    noises = [noise for *_, noise in seen_by(critic_noise, **mix)]
    for a in range(len(noises)):
        assert not any(same(noises[a], noises[b]) for b in range(a))


@pytest.mark.parametrize("critic_noise", ["local", "flipout", "weights"])
def test_noise_hangs_on_the_seed_and_the_rollout_and_is_not_the_actors(critic_noise):
    _, actors, first = seen_by(critic_noise)[0]
    torch.manual_seed(5)
    assert same(first, seen_by(critic_noise)[0][2])
    assert not same(first, seen_by(critic_noise, seed=2)[0][2])
    assert not same(first, seen_by(critic_noise, index=1)[0][2])
    of_weights = first[1].eps if critic_noise == "flipout" else tensors(first)[1]
    assert not torch.equal(of_weights, actors[1])


@pytest.mark.parametrize("critic_noise", ["local", "flipout", "weights", "mean"])
def test_the_actors_noise_is_left_as_it_is(critic_noise):
    policy = make_policy("ComplexCartPole")
    expected = policy.actor.draw_weight_noise(stream(1, "weight_noise", 0))
    assert all(same(noise, expected) for _, noise, _ in seen_by(critic_noise))


def test_the_noise_reaches_the_critics_sigma_and_the_mean_does_not():
    """Without KL: under the mean nothing moves the critic's log variances."""
    moved = {}
    for critic_noise in ("local", "flipout", "weights", "mean"):
        policy = make_policy("ComplexCartPole")
        perturb(policy, 0.2)
        before = [layer.log_var.detach().clone() for _, layer in policy.critic.layers()]
        (rollout,) = collect(policy, "ComplexCartPole", 10, 24)
        choices = dataclasses.replace(OPTIONS, critic_noise=critic_noise)
        objective = Objective(0.2, None, 0.5, 0.01, kl_weight=0.0)
        step = GradientStep(policy, objective, build_optimizer(policy, 3e-3, 1e-3, None, 1e-5, 1e-8), 0.5)
        update(policy, *build_rows(policy, rollout, choices), 0, objective, choices, step)
        after = [layer.log_var for _, layer in policy.critic.layers()]
        moved[critic_noise] = [not torch.equal(a, b) for a, b in zip(after, before, strict=True)]
    assert moved == {"local": [True] * 3, "flipout": [True] * 3, "weights": [True] * 3, "mean": [False] * 3}
