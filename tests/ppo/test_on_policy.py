"""Strictly on policy: real runs, whose acting weights are recorded and used again."""

import copy
from functools import partial
from itertools import pairwise

import pytest
import torch
from helpers import fit, weights_of

from varshare_pl.learning.acting import ActingPolicy
from varshare_pl.learning.weight_noise import make_actor_noise
from varshare_pl.ppo.module import PPOModule
from varshare_pl.ppo.update import build_rows
from varshare_pl.sharing import Shared, VarShare

KEYS = ((1, 0), (1, 1), (2, 0))
NOISY = partial(VarShare, prior_scale=1.0)


class Recording(PPOModule):
    """Keeps each batch, and the weights before and after its update."""

    def training_step(self, batch, batch_idx):
        if not hasattr(self, "seen"):
            self.seen = []
        before = weights_of(self.policy)
        log_prob = build_rows(self.policy, batch, self.options, self.actor_noise)[0]["log_prob"].clone()
        outputs = super().training_step(batch, batch_idx)
        self.seen.append((copy.deepcopy(batch), before, weights_of(self.policy), log_prob))
        return outputs


def recompute(module, weights, batch, mode):
    """The distributions that these weights give on the observations of a rollout."""
    policy = copy.deepcopy(module.policy)
    policy.load_state_dict(weights)
    of_actor = make_actor_noise(mode, policy.actor, module.options.seed)
    noise = None if of_actor is None else of_actor.acting(batch.index, 0, policy.num_tasks)
    with torch.no_grad():
        params = policy.actor(batch.obs.flatten(0, 1), batch.task.flatten(), noise)
    return params.view(batch.dist_params.shape)


@pytest.mark.parametrize("mode", ["rollout", "mean"])
@pytest.mark.parametrize(
    ("sharing", "data"),
    [(NOISY, {}), (NOISY, {"suite": "ComplexCartPole", "num_envs": 2, "rollout_steps": 64}), (Shared, {})],
    ids=["varshare", "varshare-cycle", "shared"],
)
def test_a_rollout_is_acted_by_the_weights_after_the_update_before_it(mode, sharing, data):
    run = fit(data, module_class=Recording, sharing=sharing(), actor_noise=mode)
    steps = run.module.seen
    assert [batch.index for batch, *_ in steps] == [0, 1, 2]
    for k, (batch, before, after, log_prob) in enumerate(steps):
        if k:
            torch.testing.assert_close(before, steps[k - 1][2], rtol=0, atol=0)
        acted = recompute(run.module, before, batch, mode)
        torch.testing.assert_close(acted, batch.dist_params, rtol=0, atol=2e-6)
        assert (recompute(run.module, after, batch, mode) - batch.dist_params).abs().max() > 1e-3
        if k:  # nor is it one update behind
            stale = recompute(run.module, steps[k - 1][1], batch, mode)
            assert (stale - batch.dist_params).abs().max() > 1e-3
        expected = torch.distributions.Categorical(logits=acted).log_prob(batch.actions).flatten()
        torch.testing.assert_close(log_prob, expected, rtol=0, atol=2e-6)
        assert run.records[k].metrics["diagnostics/first_ratio_deviation"] <= 1e-6


def test_fresh_noise_leaves_the_policy_and_says_so():
    with pytest.warns(UserWarning, match="actor_noise=fresh"):
        run = fit(sharing=VarShare(prior_scale=1.0), actor_noise="fresh")
    assert all(record.metrics["diagnostics/first_ratio_deviation"] > 1e-3 for record in run.records)


def test_fresh_noise_without_noise_is_quiet_and_on_policy():
    run = fit(sharing=Shared(), actor_noise="fresh")
    assert all(record.metrics["diagnostics/first_ratio_deviation"] <= 1e-6 for record in run.records)


def test_envs_go_on_from_one_rollout_to_the_next():
    steps = fit(module_class=Recording).module.seen
    for (before, *_), (after, *_) in pairwise(steps):
        assert torch.equal(before.last_obs, after.obs[0])
        assert torch.equal(before.last_task, after.task[0])
    assert [batch.env_steps for batch, *_ in steps] == [128, 256, 384]


def test_rollouts_have_noise_of_their_own():
    """Weight noise and action noise differ between rollouts, and hang on the run's seed."""
    run = fit(module_class=Recording)
    steps, policy = run.module.seen, run.module.policy
    assert not torch.equal(steps[0][0].actions, steps[1][0].actions)
    draws = [make_actor_noise("rollout", policy.actor, seed).acting(k, 0, 2)[0] for seed, k in KEYS]
    assert not any(torch.equal(draws[a], draws[b]) for a in range(3) for b in range(a))
    actions = [ActingPolicy(policy, None, seed, k).draw_noise(2, 3) for seed, k in KEYS]
    assert not any(torch.equal(actions[a], actions[b]) for a in range(3) for b in range(a))
