"""``actor_noise: stored``: a draw of weights for every env step, kept for the update."""

import dataclasses

import pytest
import torch
from helpers import METHODS, collect, fit, make_policy, perturb
from test_critic_noise import EPOCHS, MINIBATCHES, OPTIONS, Watched
from varshare_pl.ppo.step import GradientStep

from varshare_pl.learning.acting import Behaviour
from varshare_pl.learning.optimizer import build_optimizer
from varshare_pl.ppo import stored_noise
from varshare_pl.ppo.update import build_rows, update
from varshare_pl.sharing import LocalNoise, VarShare

CPU = torch.device("cpu")
MIXES = {"even": (10, {}), "ragged": (3, {"task_assignment": "cycle"})}
mixes = pytest.mark.parametrize("mix", MIXES)
Z = 8 + 8 + 2


def noisy_policy(**options):
    policy = make_policy("ComplexCartPole", VarShare(prior_scale=1.0), **options)
    perturb(policy, 0.2)
    return policy


def rollout_of(policy, mix, mode="stored"):
    num_envs, options = MIXES[mix]
    (rollout,) = collect(policy, "ComplexCartPole", num_envs, 24, mode=mode, **options)
    return rollout


def by_hand(policy, obs, task, noise):
    """Logits (rows, 2) with the weights' noise drawn at every layer's output."""
    x, layers = obs.flatten(1), [layer for _, layer in policy.actor.layers()]
    for index, (layer, zeta) in enumerate(zip(layers, noise.split([8, 8, 2], -1), strict=True)):
        mean = torch.einsum("roi,ri->ro", layer.theta + layer.mu[task], x) + layer.bias
        deviation = torch.einsum("roi,ri->ro", layer.log_var[task].exp(), x.square()).sqrt()
        x = mean + deviation * zeta
        x = x.tanh() if index < 2 else x
    return x


@mixes
def test_acting_draws_at_every_layers_output(mix):
    policy = noisy_policy()
    rollout = rollout_of(policy, mix)
    assert rollout.noise.shape == (*rollout.task.shape, 2 + Z)
    obs, task = rollout.obs.flatten(0, 1), rollout.task.flatten()
    with torch.no_grad():
        params = by_hand(policy, obs, task, rollout.noise.flatten(0, 1)[:, 2:]).view(rollout.dist_params.shape)
        mean = policy.actor(obs, task).view(params.shape)
    torch.testing.assert_close(rollout.dist_params, params, rtol=0, atol=1e-5)
    assert (params - mean).abs().mean() > 0.05
    assert torch.equal(rollout.actions, (rollout.dist_params + rollout.noise[..., :2]).argmax(-1))


def test_every_step_has_noise_of_its_own_by_seed_and_rollout():
    policy = noisy_policy()
    draws = [stored_noise.draw(policy.actor, 4, 5, seed, rollout) for seed, rollout in ((1, 0), (1, 0), (1, 1), (2, 0))]
    assert draws[0].shape == (4, 5, Z)
    assert len(draws[0].unique()) > 0.99 * draws[0].numel()
    assert [torch.equal(draw, draws[0]) for draw in draws] == [True, True, False, False]
    # The actions' own noise is that of the other modes.
    stored, mean = (Behaviour(policy, mode, 1, 0, CPU).draw_action_noise(4, 5) for mode in ("stored", "mean"))
    assert torch.equal(stored[..., :2], mean)
    assert torch.equal(stored[..., 2:], draws[0])


@mixes
def test_every_epoch_learns_under_the_noise_that_acted(mix):
    policy = noisy_policy()
    rollout = rollout_of(policy, mix)
    choices = dataclasses.replace(OPTIONS, actor_noise="stored", critic_noise="mean")
    objective = Watched(clip_range=0.2, value_clip_range=None, value_coef=0.5, entropy_coef=0.01, kl_weight=0.1)
    step = GradientStep(policy, objective, build_optimizer(policy, 3e-3, 1e-3, None, 1e-5, 1e-8), 0.5)
    rows, groups = build_rows(policy, rollout, choices)
    result = update(policy, rows, groups, 0, objective, choices, step)
    assert result.first_ratio_deviation <= 1e-6
    where = {tuple(obs.tolist()): i for i, obs in enumerate(rows["obs"])}
    acted = rollout.noise.flatten(0, 1)[:, 2:]
    assert len(where) == len(acted)
    assert len(objective.seen) == EPOCHS * MINIBATCHES
    for batch, noise, critic_noise in objective.seen:
        assert critic_noise is None
        assert all(isinstance(eps, LocalNoise) for eps in noise)
        used = torch.cat([eps.zeta for eps in noise], -1).flatten(0, 1)
        index = [where[tuple(obs.tolist())] for obs in batch.obs.flatten(0, 1)]
        assert torch.equal(used, acted[index])


def test_the_ratio_starts_at_1_in_whole_runs():
    for data in ({}, {"suite": "ComplexCartPole", "num_envs": 2, "rollout_steps": 64}, {"backend": "sync"}):
        run = fit(data, sharing=VarShare(prior_scale=1.0, layers="last 2"), actor_noise="stored")
        assert all(record.metrics["diagnostics/first_ratio_deviation"] <= 1e-6 for record in run.records)


def test_other_noise_than_the_stored_gives_other_ratios():
    """What the two tests above would find if the update drew anew."""
    policy = noisy_policy()
    rollout = rollout_of(policy, "even")
    rollout.noise = rollout.noise.flip(0)
    choices = dataclasses.replace(OPTIONS, actor_noise="stored")
    objective = Watched(clip_range=0.2, value_clip_range=None, value_coef=0.5, entropy_coef=0.01, kl_weight=0.1)
    step = GradientStep(policy, objective, build_optimizer(policy, 3e-3, 1e-3, None, 1e-5, 1e-8), 0.5)
    assert (
        update(policy, *build_rows(policy, rollout, choices), 0, objective, choices, step).first_ratio_deviation > 0.1
    )


@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"varshare"}))
def test_without_noise_it_is_the_posterior_mean(method):
    data = {"total_env_steps": 128}
    runs = [fit(data, sharing=METHODS[method](), actor_noise=mode) for mode in ("mean", "stored")]
    states = [dict(run.module.policy.state_dict()) for run in runs]
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=0)


def test_the_noise_reaches_the_actors_sigma():
    """Without KL, only the noise moves the log variances."""
    for mode, moves in (("stored", True), ("mean", False)):
        fresh = fit({"total_env_steps": 128}, kl_weight=0.0, actor_noise=mode).module.policy.actor
        start = [layer.prior_std * 0.5 for _, layer in fresh.layers()]
        moved = [
            not torch.allclose(layer.sigma(), torch.full_like(layer.log_var, sigma), rtol=1e-6)
            for (_, layer), sigma in zip(fresh.layers(), start, strict=True)
        ]
        assert moved == [moves] * 3
