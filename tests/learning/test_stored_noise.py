"""``actor_noise: stored``: a draw of weights for every env step, kept for the update."""

import pytest
import torch
from helpers import METHODS, collect, fit, inputs_of, make_policy, perturb, update

from varshare_pl.learning.acting import ActingPolicy
from varshare_pl.learning.weight_noise import make_actor_noise
from varshare_pl.sharing import LocalNoise, VarShare

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
    keys = ((1, 0), (1, 0), (1, 1), (2, 0))
    draws = [make_actor_noise("stored", policy.actor, seed).draw_rows(4, 5, rollout) for seed, rollout in keys]
    assert draws[0].shape == (4, 5, Z)
    assert len(draws[0].unique()) > 0.99 * draws[0].numel()
    assert [torch.equal(draw, draws[0]) for draw in draws] == [True, True, False, False]
    # The actions' own noise is that of the other modes.
    noises = [make_actor_noise(mode, policy.actor, 1) for mode in ("stored", "mean")]
    stored, mean = (ActingPolicy(policy, noise, 1, 0).draw_noise(4, 5) for noise in noises)
    assert torch.equal(stored[..., :2], mean)
    assert torch.equal(stored[..., 2:], draws[0])


@mixes
def test_every_epoch_learns_under_the_noise_that_acted(mix):
    policy = noisy_policy()
    rollout = rollout_of(policy, mix)
    seen = list(inputs_of(policy, rollout, 4, actor_noise="stored", critic_noise="mean", update_epochs=3))
    obs, acted = rollout.obs.flatten(0, 1), rollout.noise.flatten(0, 1)[:, 2:]
    where = {tuple(row.tolist()): i for i, row in enumerate(obs)}
    assert len(where) == len(acted)
    assert len(seen) == 3 * 4
    for batch, noise, critic_noise in seen:
        assert critic_noise is None
        assert all(isinstance(eps, LocalNoise) for eps in noise)
        used = torch.cat([eps.zeta for eps in noise], -1).flatten(0, 1)
        index = [where[tuple(row.tolist())] for row in batch.obs.flatten(0, 1)]
        assert torch.equal(used, acted[index])
    log_ratio = update(policy, rollout, actor_noise="stored").losses.log_ratio
    assert log_ratio[0].abs().max() <= 1e-6
    assert log_ratio[-1].abs().max() > 1e-3


def test_the_ratio_starts_at_1_in_whole_runs():
    for data in ({}, {"suite": "ComplexCartPole", "num_envs": 2, "rollout_steps": 64}, {"backend": "sync"}):
        run = fit(data, sharing=VarShare(prior_scale=1.0, layers="last 2"), actor_noise="stored")
        assert all(record.metrics["diagnostics/first_ratio_deviation"] <= 1e-6 for record in run.records)


def test_other_noise_than_the_stored_gives_other_ratios():
    """What the two tests above would find if the update drew anew."""
    policy = noisy_policy()
    rollout = rollout_of(policy, "even")
    rollout.noise = rollout.noise.flip(0)
    assert update(policy, rollout, actor_noise="stored").losses.log_ratio[0].abs().max() > 0.1


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
