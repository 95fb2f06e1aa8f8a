"""Observations that float32 cannot tell apart: told, or normalised before they are rounded."""

import dataclasses
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
import yaml
from gymnasium.spaces import Box, Discrete
from helpers import collect, fit, make_policy

from varshare_pl.checkpoints import CHECKPOINT_KEY, CONFIG_KEY
from varshare_pl.envs import get_suite
from varshare_pl.rollout.digits import Digits
from varshare_pl.sharing import Shared
from varshare_pl.trained.policy import load_policy

FAR = 1e8


class Far(gym.Env):
    """Observes 1e8 or 1e8 + 1, and pays for the action of that number."""

    observation_space, action_space = Box(-np.inf, np.inf, (1,), np.float64), Discrete(2)
    time = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.bit = int(self.np_random.integers(2))
        return np.array([FAR + self.bit]), {}

    def step(self, action):
        reward = float(action == self.bit)
        self.bit = int(self.np_random.integers(2))
        self.time += 1
        return np.array([FAR + self.bit]), reward, self.time % 10 == 0, False, {}

    def get_state(self):
        return {"bit": self.bit, "time": self.time}

    def set_state(self, state):
        self.bit, self.time = state["bit"], state["time"]


@pytest.fixture
def suite():
    gym.register("Far-v0", Far)
    yield [{"id": "Far-v0"}]
    del gym.registry["Far-v0"]


def data(suite, rollouts):
    return {"suite": suite, "num_envs": 8, "rollout_steps": 32, "total_env_steps": rollouts * 256}


def test_a_task_far_from_0_is_learned_from_normalised_observations(suite):
    model = {"sharing": Shared(), "minibatch_size": 64, "lr_actor": 2e-2, "anneal_lr": False}
    run = fit(data(suite, 8), normalize_observations="task", **model)
    assert run.records[-1].metrics["train/return_mean"] > 9.0  # of 10; 5 is chance
    moments = run.module.policy.observation_moments
    assert moments.mean.item() == pytest.approx(FAR + 0.5, abs=0.1)
    assert moments.std.item() == pytest.approx(0.5, abs=0.02)
    act = run.module.policy.deterministic()
    tasks = torch.zeros(2, dtype=torch.int64)
    assert act(torch.tensor([[FAR], [FAR + 1]], dtype=torch.float64), tasks).tolist() == [0, 1]
    assert {p.dtype for p in run.module.parameters()} == {torch.float32}


def test_a_checkpoint_is_loaded_with_all_digits(suite, tmp_path):
    spec = dataclasses.replace(get_suite(suite).env_spec(), obs_dtype="float64")
    policy = make_policy(spec, Shared(), hidden_sizes=(8,), normalize_observations="task")
    rows = torch.tensor([[FAR], [FAR + 1]], dtype=torch.float64)
    policy.observation_moments.update(rows, torch.zeros(2, dtype=torch.int64))
    model = {"sharing": {"class_path": "varshare_pl.sharing.Shared"}, "hidden_sizes": [8], "activation": "tanh"}
    config = {"data": {"suite": suite}, "model": {**model, "normalize_observations": "task"}}
    identity = {"suite": "Far-v0", "num_tasks": 1, "sharing": "shared", "env_steps": 0}
    identity["tasks"] = list(get_suite(suite).identities())
    state = {f"policy.{name}": tensor for name, tensor in policy.state_dict().items()}
    content = {CHECKPOINT_KEY: identity, CONFIG_KEY: yaml.safe_dump(config), "state_dict": state}
    torch.save(content, tmp_path / "last.ckpt")
    loaded = load_policy(tmp_path / "last.ckpt")
    task = torch.zeros(2, dtype=torch.int64)
    expected = policy.actor(policy.encode(rows, task), task)
    torch.testing.assert_close(loaded.action_params(rows, task), expected)
    assert (expected[0] - expected[1]).abs().max() > 1e-4
    loaded.export(tmp_path / "far.pt2", 0)
    torch.testing.assert_close(torch.export.load(tmp_path / "far.pt2").module()(rows)[1], expected)


def test_the_ratio_still_starts_at_1(suite):
    run = fit(data(suite, 3), normalize_observations="task", sharing=Shared())
    assert max(record.metrics["diagnostics/first_ratio_deviation"] for record in run.records) < 1e-5


def test_without_normalisation_the_loss_is_told_once(suite):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(data(suite, 3), sharing=Shared(), minibatch_size=64)
    told = [str(w.message) for w in caught if "float32" in str(w.message)]
    assert told == [
        "float32 cannot tell the observations of task 0 apart: component 0 goes from 100000000.0 to 100000001.0, and "
        "float32 has steps of 8 there; model.normalize_observations task normalises before it rounds"
    ]


def test_a_policy_without_normalisation_collects_in_float32(suite):
    policy = make_policy(get_suite(suite).env_spec(), Shared(), hidden_sizes=(8,))
    with pytest.warns(UserWarning, match="float32 cannot tell"):
        (rollout,) = collect(policy, suite, 1, 8)
    assert rollout.obs.dtype == rollout.final_obs.dtype == rollout.last_obs.dtype == torch.float32


@pytest.mark.parametrize(
    ("rows", "fine"),
    [
        ([0.0, 1.0], True),
        ([0.0, FAR], True),  # a step of 8 is little of it
        ([FAR, FAR], True),  # nothing to tell apart
        ([1 / 3, 1 / 3], True),
        ([FAR, FAR + 1], False),
        ([1.0, 1.0 + 1e-6], False),
        ([-1e5, -1e5 + 1], False),
        ([-1e3, -1e3 + 1], True),
    ],
)
def test_the_range_is_measured_against_the_steps_of_float32(rows, fine):
    digits = Digits(2, (1,))
    digits.see(np.array([rows]).T, np.array([1, 1]))
    complaint = digits.complaint()
    assert (complaint is None) == fine
    assert fine or "of task 1 apart: component 0 goes from" in complaint


def test_each_task_has_its_own_range():
    digits = Digits(2, ())
    digits.see(np.array([0.0, FAR]), np.array([0, 1]))
    assert digits.complaint() is None
    digits.see(np.array([1.0, FAR + 1]), np.array([0, 1]))
    assert "task 1 apart" in digits.complaint()
