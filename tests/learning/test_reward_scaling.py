"""Rewards by the deviation of discounted returns, and training that does not see their scale."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from helpers import collect, fit, make_policy, randn

from varshare_pl.learning.normalisation import LARGEST_REWARD, RewardScaling
from varshare_pl.networks.moments import TaskMoments

EACH = {
    "returns": {"normalize_returns": "task"},
    "popart": {"normalize_returns": "task", "popart": True},
    "rewards": {"normalize_rewards": "task"},
}
SHARED = {"shared": {"normalize_returns": "shared", "popart": True, "normalize_rewards": "shared"}}


def discounted_returns(rollouts, gamma):
    """By the letter, env after env: (task, R) of every step."""
    seen = []
    for env in range(rollouts[0].rewards.shape[1]):
        running = 0.0
        for rollout in rollouts:
            for t in range(len(rollout.rewards)):
                running = gamma * running + rollout.rewards[t, env].item()
                seen.append((rollout.task[t, env].item(), running))
                if rollout.terminated[t, env] or rollout.truncated[t, env]:
                    running = 0.0
    return np.array([m for m, _ in seen]), np.array([value for _, value in seen])


def with_rewards(rollout, k):
    return dataclasses.replace(rollout, rewards=randn(*rollout.rewards.shape, seed=k, dtype=torch.float32) + 0.5)


def test_rewards_are_divided_by_the_deviation_of_discounted_returns():
    """Envs change their tasks; the returns of an episode go on from one rollout to the next."""
    policy = make_policy("ComplexCartPole")
    rollouts = collect(policy, "ComplexCartPole", 3, 40, rollouts=3, task_assignment="cycle")
    rollouts = [with_rewards(rollout, k) for k, rollout in enumerate(rollouts)]
    scaling = RewardScaling(TaskMoments(5), 0.9)
    for k, rollout in enumerate(rollouts):
        raw = rollout.rewards.clone()
        scaled = scaling.scale(rollout)
        assert torch.equal(rollout.rewards, raw)  # what is logged stays raw
        task, seen = discounted_returns(rollouts[: k + 1], 0.9)
        deviation = np.array([seen[task == m].std() if (task == m).any() else 1.0 for m in range(5)])
        expected = rollout.rewards.numpy() / deviation[rollout.task.numpy()]
        np.testing.assert_allclose(scaled.rewards.numpy(), expected, rtol=1e-5)


def test_one_scale_for_all_tasks_keeps_what_they_pay_in_proportion():
    """Of tasks with as many rows: the deviation of all their discounted returns together."""
    policy = make_policy("ComplexCartPole")
    (rollout,) = (with_rewards(r, 0) for r in collect(policy, "ComplexCartPole", 5, 40))
    rollout.rewards[:, 1:] *= 1e-3
    scaled = RewardScaling(TaskMoments(5, shared=True), 0.9).scale(rollout)
    _, seen = discounted_returns([rollout], 0.9)
    np.testing.assert_allclose(scaled.rewards.numpy(), rollout.rewards.numpy() / seen.std(), rtol=1e-5)
    each = RewardScaling(TaskMoments(5), 0.9).scale(rollout).rewards
    assert each[:, 1:].std() > 300 * scaled.rewards[:, 1:].std()  # what hardly pays is blown up to the size of the rest


@pytest.mark.parametrize("ending", ["terminated", "truncated"])
def test_discounted_returns_start_again_where_an_episode_ends(ending):
    """By hand: rewards of 1 at γ = 0.5, an end after the third step, whichever it is."""
    (rollout,) = collect(make_policy("CartPole"), "CartPole", 1, 5)
    flags = torch.zeros(5, 1, dtype=torch.bool)
    flags[2] = True
    ends = {"terminated": torch.zeros_like(flags), "truncated": torch.zeros_like(flags), ending: flags}
    rollout = dataclasses.replace(rollout, rewards=torch.ones(5, 1), **ends)
    moments = TaskMoments(1)
    scaling = RewardScaling(moments, 0.5)
    scaling.scale(rollout)
    seen = np.array([1.0, 1.5, 1.75, 1.0, 1.5])
    assert moments.mean.item() == pytest.approx(seen.mean())
    assert moments.variance.item() == pytest.approx(seen.var())
    assert scaling.state() == [1.5]


def test_large_rewards_are_cut_off():
    (rollout,) = collect(make_policy("CartPole"), "CartPole", 2, 300)
    rollout.rewards[5, 1] = -1e4
    scaled = RewardScaling(TaskMoments(1), 0.0).scale(rollout).rewards
    assert scaled[5, 1] == -LARGEST_REWARD
    assert (scaled.abs() < LARGEST_REWARD).sum() == 599


def test_scaling_goes_on_from_its_state():
    rollouts = collect(make_policy("ComplexCartPole"), "ComplexCartPole", 3, 10, rollouts=2)
    whole, resumed = RewardScaling(TaskMoments(5), 0.9), RewardScaling(TaskMoments(5), 0.9)
    assert whole.state() == []
    resumed.load_state([])
    whole.scale(rollouts[0])
    resumed._moments.load_state_dict(whole._moments.state_dict())
    resumed.load_state(whole.state())
    assert any(whole.state())
    assert torch.equal(whole.scale(rollouts[1]).rewards, resumed.scale(rollouts[1]).rewards)
    assert whole.state() == resumed.state()


class ScaledReward(gym.Env):
    """Reward scale · (1 for an action that follows the sign of the observation), for 10 steps."""

    observation_space, action_space = Box(-1, 1, (1,), np.float32), Discrete(2)
    scale = 1.0

    def _observe(self):
        self.state = self.np_random.uniform(-1.0, 1.0)
        return np.array([self.state], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 10
        return self._observe(), {}

    def step(self, action):
        reward = float(self.scale * (int(action) == (self.state > 0.0)))
        self.left -= 1
        return self._observe(), reward, self.left == 0, False, {}


@pytest.fixture
def scaled_suite():
    gym.register("ScaledReward-v0", entry_point=ScaledReward)

    def suite(*scales):
        return [
            {"id": "ScaledReward-v0", "name": f"task {m}", "attributes": {"scale": s}} for m, s in enumerate(scales)
        ]

    yield suite
    del gym.registry["ScaledReward-v0"]


@pytest.mark.parametrize(
    ("kind", "scales"), [*((kind, (1000.0, 0.1)) for kind in EACH), ("shared", (1000.0, 1000.0))], ids=str
)
def test_training_does_not_see_the_scale_of_rewards(scaled_suite, kind, scales):
    """Of each task; with one scale for all, that of all."""
    runs = []
    for chosen in ((1.0, 1.0), scales):
        # A critic that starts at 0 has no scale of its own, nor have advantages that are normalised.
        options = {"critic_head_gain": 1e-9, "anneal_lr": False, **(EACH | SHARED)[kind]}
        runs.append(fit({"suite": scaled_suite(*chosen)}, **options))
    one, other = runs
    for (name, p), q in zip(one.module.named_parameters(), other.module.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-2, atol=2e-4, msg=name)
    for record, scaled in zip(one.records, other.records, strict=True):
        assert scaled.metrics["loss/value"] == pytest.approx(record.metrics["loss/value"], rel=1e-3)
        for task, factor in enumerate(scales):  # but what is logged is raw
            name = f"train/return_task_{task}"
            assert scaled.metrics[name] == pytest.approx(factor * record.metrics[name], rel=1e-5)


def test_without_normalisation_training_sees_the_scale_of_rewards(scaled_suite):
    loss = {
        scales: fit({"suite": scaled_suite(*scales)}).records[-1].metrics["loss/value"]
        for scales in ((1.0, 1.0), (1000.0, 0.1))
    }
    assert loss[1000.0, 0.1] > 1e3 * loss[1.0, 1.0]
