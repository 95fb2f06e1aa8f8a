"""Evaluation: a fixed quota per env, deterministic, each return with its task."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from helpers import make_policy, perturb

from varshare_pl.envs import get_suite, make_vector_env
from varshare_pl.errors import ConfigError
from varshare_pl.random import stream_seed
from varshare_pl.trained.evaluation import EvaluationResult, StoppedError, evaluate


def bandit(**options):
    return {"suite": get_suite("ConflictBandit"), "episodes": 4, "seed": 1, "counter": 0, **options}


def always(action):
    return lambda obs, task: torch.full((len(obs),), action)


@pytest.mark.parametrize("envs_per_task", [None, 1, 2, 4])
@pytest.mark.parametrize("backend", ["batched", "torch", "sync"])
def test_returns_belong_to_the_right_task(envs_per_task, backend):
    """A policy that is right for task 2 only earns 1 there and nothing elsewhere."""
    result = evaluate(always(2), **bandit(envs_per_task=envs_per_task, backend=backend))
    assert result.returns.shape == result.lengths.shape == (5, 4)
    assert result.task_returns.tolist() == [0.0, 0.0, 1.0, 0.0, 0.0]
    assert result.lengths.tolist() == [[1] * 4] * 5
    assert result.task_solved == [False, False, True, False, False]
    assert result.solved is False


def test_the_policy_is_told_the_task():
    result = evaluate(lambda obs, task: task, **bandit())
    assert result.task_returns.tolist() == [1.0] * 5
    assert result.solved is True


def test_a_suite_without_a_threshold_is_neither_solved_nor_not():
    result = EvaluationResult(np.ones((2, 3)), np.ones((2, 3), np.int64), {}, None)
    assert result.task_solved == [None, None]
    assert result.solved is None


def test_solved_means_every_task_on_average():
    returns = np.array([[400.0, 500.0, 525.0], [475.0, 475.0, 475.0]])
    result = EvaluationResult(returns, np.ones((2, 3), np.int64), {}, 475.0)
    assert result.task_solved == [True, True]
    assert EvaluationResult(returns - [[1.0], [0.0]], result.lengths, {}, 475.0).solved is False


@pytest.fixture(scope="module")
def act():
    policy = make_policy("ComplexCartPole")
    perturb(policy)
    return policy.deterministic()


def test_the_policy_follows_tasks_that_change(act):
    obs, task = torch.randn(40, 4), torch.arange(40) % 5
    both = [act(obs, task), act(obs, task.flip(0))]
    task += 1  # in place, as an env may do it
    task %= 5
    changed = act(obs, task)
    policy = make_policy("ComplexCartPole")
    perturb(policy)
    afresh = [policy.deterministic()(obs, tasks) for tasks in (torch.arange(40) % 5, (torch.arange(40) % 5).flip(0))]
    assert all(map(torch.equal, both, afresh))
    assert torch.equal(changed, policy.deterministic()(obs, (torch.arange(40) + 1) % 5))
    assert not torch.equal(changed, both[0])


def by_hand(act, episodes, seed, counter, envs_per_task):
    """Step the same envs and keep the first ``episodes / envs_per_task`` episodes of each."""
    quota, n = episodes // envs_per_task, 5 * envs_per_task
    envs = make_vector_env("ComplexCartPole", n, seed=stream_seed(seed, "evaluation", counter), task_assignment="fixed")
    returns, running = [[] for _ in range(n)], np.zeros(n)
    obs, info = envs.reset()
    while min(len(r) for r in returns) < quota:
        obs, reward, terminated, truncated, info = envs.step(
            act(torch.from_numpy(obs), torch.from_numpy(info["task"])).numpy()
        )
        running += reward
        for env in np.flatnonzero(terminated | truncated):
            returns[env].append(running[env])
            running[env] = 0.0
    envs.close()
    return [sorted(r for env in range(m, n, 5) for r in returns[env][:quota]) for m in range(5)]


@pytest.mark.parametrize("envs_per_task", [1, 3, 6])
def test_returns_equal_a_hand_run_with_a_quota_per_env(act, envs_per_task):
    result = evaluate(act, get_suite("ComplexCartPole"), 6, 1, 7, envs_per_task=envs_per_task)
    assert [sorted(row) for row in result.returns.tolist()] == by_hand(act, 6, 1, 7, envs_per_task)
    assert np.array_equal(result.returns, result.lengths)  # CartPole pays 1 a step
    assert len(np.unique(result.returns)) > 5


def test_the_quota_does_not_favour_short_episodes():
    """One env has episodes of 2 steps, the other of 10: the first four to end would all be short."""
    gym.register("Turns-v0", entry_point=Turns)
    try:
        suite = get_suite([{"id": "Turns-v0"}])
        result = evaluate(always(0), suite, 4, 1, 0, envs_per_task=2, info_metrics=("success",))
        assert sorted(result.lengths[0]) == [2, 2, 10, 10]
        np.testing.assert_allclose(result.info["success"], result.lengths / 10, rtol=1e-6)
        with pytest.raises(ConfigError, match="'other' is not in the env's info"):
            evaluate(always(0), suite, 4, 1, 0, info_metrics=("other",))
    finally:
        del gym.registry["Turns-v0"]


class Turns(gym.Env):
    observation_space, action_space = Box(-1, 1, (1,), np.float32), Discrete(2)
    made = 0

    def __init__(self):
        Turns.made += 1
        self.length = 2 if Turns.made % 2 else 10

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.step_count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.step_count += 1
        ended = self.step_count == self.length
        return np.zeros(1, np.float32), 1.0, ended, False, {"success": self.step_count / 10}


def test_the_same_key_gives_the_same_result(act):
    def run(seed, counter, global_seed=0):
        torch.manual_seed(global_seed)
        return evaluate(act, get_suite("ComplexCartPole"), 4, seed, counter).returns.tolist()

    assert run(1, 0) == run(1, 0, global_seed=9)
    assert run(1, 0) != run(1, 1)
    assert run(1, 0) != run(2, 0)


def test_envs_per_task_must_divide():
    with pytest.raises(ConfigError, match=r"evaluation.envs_per_task: 3 .*4"):
        evaluate(always(0), **bandit(envs_per_task=3))


class Forever(gym.Env):
    """Ends where action 1 is taken, and after five steps of its third episode; 1 a step."""

    observation_space, action_space = Box(-1, 1, (1,), np.float32), Discrete(2)
    episode = -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.time = self.episode + 1, 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.time += 1
        ended = bool(action == 1) or (self.episode == 2 and self.time == 5)
        return np.zeros(1, np.float32), 1.0, ended, False, {"score": 3.0} if ended else {}


@pytest.fixture
def endless():
    gym.register("Forever-v0", Forever)
    yield get_suite(["Forever-v0"])
    del gym.registry["Forever-v0"]


@pytest.mark.parametrize("backend", ["sync", "workers"])
def test_an_episode_that_does_not_end_is_cut_and_told(endless, backend):
    options = {"info_metrics": ("score",), "max_episode_steps": 7, "backend": backend}
    result = evaluate(always(0), endless, 6, 1, 0, envs_per_task=2, **options)
    assert result.lengths.tolist() == [[7, 7, 5] * 2]
    assert result.returns.tolist() == [[7.0, 7.0, 5.0] * 2]
    assert result.cut.tolist() == [[True, True, False] * 2]
    np.testing.assert_array_equal(result.info["score"], [[np.nan, np.nan, 3.0] * 2])
    assert result.task_cuts == [4]
    assert result.notes[0].startswith("cut: 4 of 6 episodes, at evaluation.max_episode_steps = 7")
    again = EvaluationResult.from_plain(result.to_plain())
    assert (again.task_cuts, again.notes) == (result.task_cuts, result.notes)


def test_an_episode_as_long_as_the_limit_is_not_cut(endless):
    result = evaluate(always(1), endless, 2, 1, 0, max_episode_steps=1)
    assert result.cut is None
    assert (result.task_cuts, result.notes) == ([0], [])


@pytest.mark.parametrize("backend", ["batched", "torch", "sync"])
def test_built_in_envs_are_cut_the_same(act, backend):
    suite = get_suite("ComplexCartPole")
    whole = evaluate(act, suite, 2, 1, 0, backend, envs_per_task=2)
    cut = evaluate(act, suite, 2, 1, 0, backend, envs_per_task=2, max_episode_steps=9)
    assert cut.returns.tolist() == np.minimum(whole.returns, 9).tolist()
    assert 0 < sum(cut.task_cuts) == (whole.lengths > 9).sum() < 10


def test_an_evaluation_can_be_stopped(endless):
    asked = iter([False] * 3 + [True])
    with pytest.raises(StoppedError):
        evaluate(always(0), endless, 1, 1, 0, max_episode_steps=None, stopped=lambda: next(asked))


def test_info_metrics_that_are_no_numbers_name_env_task_and_step(endless, monkeypatch):
    monkeypatch.setattr(
        Forever, "step", lambda self, action: (np.zeros(1, np.float32), 1.0, True, False, {"score": "good"})
    )
    with pytest.raises(ConfigError) as error:
        evaluate(always(0), endless, 1, 1, 0, info_metrics=("score",))
    where = "env 0 (task 0) at step 1 of its episode in an evaluation"
    assert str(error.value) == (
        f"data.info_metrics: 'score' is 'good' in {where}; a number, or an array of one, is allowed"
    )
