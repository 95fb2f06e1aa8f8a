"""The env whose value is known: reward 1 at every step for ever, seen through a time limit."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from helpers import METHODS, fit

GAMMA = 0.9


class ConstantReward(gym.Env):
    observation_space, action_space = Box(0, 1, (1,), np.float32), Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action):
        return np.ones(1, np.float32), 1.0, False, False, {}


@pytest.fixture(autouse=True)
def _registered():
    gym.register("ConstantReward-v0", entry_point=ConstantReward, max_episode_steps=5)
    yield
    del gym.registry["ConstantReward-v0"]


@pytest.mark.parametrize("method", METHODS)
def test_the_critic_learns_one_over_one_minus_gamma(method):
    """10 for every task; with the time limit taken for an end it would be about 3."""
    tasks = [{"id": "ConstantReward-v0", "name": name} for name in ("a", "b")]
    data = {"suite": tasks, "num_envs": 4, "rollout_steps": 16, "total_env_steps": 30 * 64}
    options = {"gamma": GAMMA, "lr_critic": 2e-2, "anneal_lr": True, "minibatch_size": 32, "update_epochs": 4}
    policy = fit(data, sharing=METHODS[method](), **options).module.policy
    with torch.no_grad():
        values = policy.critic(torch.ones(2, 1), torch.tensor([0, 1]))
    assert values.flatten().tolist() == pytest.approx([1 / (1 - GAMMA)] * 2, rel=0.03)
