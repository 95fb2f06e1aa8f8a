"""What the collector writes down, against envs stepped by hand."""

import copy
import dataclasses
import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from helpers import collect, generator, make_policy, perturb

from varshare_pl.envs import final_observations, get_suite, make_vector_env
from varshare_pl.errors import ConfigError
from varshare_pl.learning.acting import ActingPolicy
from varshare_pl.learning.weight_noise import make_actor_noise
from varshare_pl.rollout.collector import Collector

STEPS = 60


class Counter(gym.Env):
    """Observes (task, episode, step), ends after ``length`` steps; ``info["success"]`` is right in the last step only.

    Args:
        task: What the observation tells.
        length: Steps of an episode.
        truncates: Whether it ends by truncation.
        tells: Whether there is a success to tell.
    """

    def __init__(self, task=0, length=3, truncates=False, tells=True):
        self.observation_space, self.action_space = Box(-100, 100, (3,), np.float32), Discrete(2)
        self.task_value, self.length, self.truncates, self.tells = task, length, truncates, tells
        self.episode = -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.step_count = self.episode + 1, 0
        return self._obs(), self._info(-1.0)

    def _obs(self):
        return np.array([self.task_value, self.episode, self.step_count], np.float32)

    def _info(self, success):
        return {"success": success} if self.tells else {"other": 0.0}

    def step(self, action):
        self.step_count += 1
        ended = self.step_count == self.length
        info = self._info(self.task_value + 0.5 if ended else -1.0)
        return self._obs(), 0.5 + float(action), ended and not self.truncates, ended and self.truncates, info


@pytest.fixture(scope="module", autouse=True)
def _registered():
    gym.register("Counter-v0", entry_point=Counter)
    yield
    del gym.registry["Counter-v0"]


def counter_suite(*tasks):
    return get_suite(
        [{"id": "Counter-v0", "kwargs": {"task": k, **task}, "name": f"{k}"} for k, task in enumerate(tasks)]
    )


class Script:
    """A policy that plays given actions (T, N)."""

    def __init__(self, actions):
        self.actions, self.t, self.seen = actions, 0, []

    def draw_noise(self, steps, envs):
        return torch.zeros(steps, envs)

    def act(self, obs, groups, noise):
        self.seen.append((obs.clone(), groups.ungroup(groups.group_task[:, None].expand(groups.index.shape))))
        self.t += 1
        return self.actions[self.t - 1], torch.zeros(len(obs), 2)

    def to_env(self, actions):
        return actions


def scripted(suite, num_envs, steps=STEPS, rollouts=1, **options):
    actions = torch.randint(2, (steps * rollouts, num_envs), generator=generator(2))
    info_metrics = options.pop("info_metrics", ())
    script, suite = Script(actions), get_suite(suite)
    collector = Collector(make_vector_env(suite, num_envs, seed=3, **options), suite.num_tasks, info_metrics)
    try:
        return [collector.collect(script, steps, k) for k in range(rollouts)], script
    finally:
        collector.close()


def by_hand(suite, num_envs, actions, **options):
    """The same envs stepped without a collector; everything as lists over steps."""
    envs = make_vector_env(suite, num_envs, seed=3, **options)
    obs, info = envs.reset()
    steps = {name: [] for name in ("obs", "task", "rewards", "terminated", "truncated", "final_obs")}
    for action in actions:
        steps["obs"].append(obs)
        steps["task"].append(info["task"].copy())
        obs, reward, terminated, truncated, info = envs.step(action.numpy())
        for name, value in (("rewards", reward), ("terminated", terminated), ("truncated", truncated)):
            steps[name].append(value.copy())
        steps["final_obs"].append(final_observations(info, obs)[0].copy())
    envs.close()
    return {name: np.stack(values) for name, values in steps.items()} | {"last_obs": obs, "last_task": info["task"]}


@pytest.mark.parametrize(
    ("suite", "num_envs", "options"),
    [
        ("ComplexCartPole", 10, {}),
        ("ComplexCartPole", 3, {"task_assignment": "cycle"}),
        ("ComplexCartPole", 3, {"task_assignment": "cycle", "backend": "sync"}),
        ("ConflictBandit", 4, {}),
    ],
)
def test_rollout_equals_stepping_by_hand(suite, num_envs, options):
    (rollout,), script = scripted(suite, num_envs, **options)
    expected = by_hand(suite, num_envs, script.actions, **options)
    assert expected["terminated"].any()
    for name, value in expected.items():
        recorded = getattr(rollout, name)
        np.testing.assert_array_equal(recorded.numpy(), value, err_msg=name)
    assert torch.equal(rollout.actions, script.actions)
    assert rollout.rewards.dtype == rollout.obs.dtype == rollout.final_obs.dtype == torch.float32
    assert rollout.task.dtype == rollout.last_task.dtype == torch.int64
    assert (rollout.index, rollout.env_steps) == (0, STEPS * num_envs)


@pytest.mark.parametrize("backend", ["batched", "torch", "sync"])
def test_the_policy_sees_the_observation_with_its_task(backend):
    (rollout,), script = scripted("ComplexCartPole", 3, task_assignment="cycle", backend=backend)
    assert len(rollout.task.unique()) > 3  # more than there are envs
    for t, (obs, task) in enumerate(script.seen):
        assert torch.equal(obs, rollout.obs[t])
        assert torch.equal(task, rollout.task[t])


def test_transitions_carry_the_task_of_their_observation():
    """The Counter's observation tells its task, episode and step, so every field can be checked against it."""
    suite = counter_suite({"length": 3}, {"length": 4, "truncates": True})
    (first, second), _ = scripted(suite, 3, steps=10, rollouts=2, task_assignment="cycle")
    for rollout in (first, second):
        assert torch.equal(rollout.obs[..., 0].long(), rollout.task)
        assert torch.equal(rollout.last_obs[:, 0].long(), rollout.last_task)
        done = rollout.terminated | rollout.truncated
        length = torch.where(rollout.task == 0, 3, 4)
        # No ghost transition: steps count 0 … length − 1, and an episode ends exactly at its last one.
        assert torch.equal(done, rollout.obs[..., 2] == length - 1)
        assert torch.equal(rollout.terminated, done & (rollout.task == 0))
        assert torch.equal(rollout.truncated, done & (rollout.task == 1))
        # final_obs is the observation after the last step, of the task that ended, and 0 elsewhere.
        final = torch.stack([rollout.task, rollout.obs[..., 1].long(), length], -1).float()
        assert torch.equal(rollout.final_obs, torch.where(done[..., None], final, 0.0))
        # Consecutive observations line up: the next step, or the first one of the next task's episode.
        following = torch.cat([rollout.obs[1:], rollout.last_obs[None]])
        assert torch.equal(following[..., 2], torch.where(done, 0, rollout.obs[..., 2] + 1))
        assert torch.equal(following[..., 0].long(), torch.where(done, 1 - rollout.task, rollout.task))
    assert torch.equal(first.last_obs, second.obs[0])
    assert torch.equal(first.last_task, second.task[0])
    assert (second.index, second.env_steps) == (1, 60)


def test_episodes_equal_a_hand_run():
    """Returns and lengths of whole episodes, those over the border of two rollouts included, in order of their end."""
    (first, second), script = scripted("ComplexCartPole", 4, rollouts=2, task_assignment="cycle")
    hand = by_hand("ComplexCartPole", 4, script.actions, task_assignment="cycle")
    expected, total, length = [], np.zeros(4), np.zeros(4, int)
    for t in range(2 * STEPS):
        total, length = total + hand["rewards"][t], length + 1
        for env in np.flatnonzero(hand["terminated"][t] | hand["truncated"][t]):
            expected.append((t < STEPS, hand["task"][t, env], total[env], length[env]))
            total[env], length[env] = 0, 0
    for rollout, is_first in ((first, True), (second, False)):
        episodes = rollout.episodes
        recorded = list(zip(episodes.task.tolist(), episodes.returns.tolist(), episodes.lengths.tolist(), strict=True))
        assert recorded == [(int(k), float(r), int(n)) for early, k, r, n in expected if early == is_first]
        assert recorded


def test_no_episode_ended():
    (rollout,), _ = scripted("ComplexCartPole", 5, steps=2)
    assert rollout.episodes.task.shape == rollout.episodes.returns.shape == rollout.episodes.lengths.shape == (0,)
    assert not rollout.final_obs.any()


def test_info_metrics_come_from_the_last_step():
    suite = counter_suite({"length": 3}, {"length": 4})
    (rollout,), _ = scripted(suite, 2, steps=12, info_metrics=("success",))
    success = rollout.episodes.info["success"]
    assert len(success) == 7
    assert torch.equal(success, rollout.episodes.task + 0.5)


def test_info_metrics_without_an_episode_are_empty():
    (rollout,), _ = scripted(counter_suite({"length": 30}), 2, steps=5, info_metrics=("success",))
    assert rollout.episodes.info["success"].shape == (0,)


@pytest.mark.parametrize("tasks", [[{"tells": False}], [{}, {"tells": False}]])
def test_a_missing_info_metric_raises(tasks):
    """Also where only one of the tasks that end together lacks it: a 0 would pass for a measurement."""
    with pytest.raises(ConfigError, match=r"info_metrics: 'success' is not in the env's info.*other"):
        scripted(counter_suite(*tasks), 2, steps=5, info_metrics=("success",))


def test_a_missing_info_metric_of_a_batched_env_raises():
    with pytest.raises(ConfigError, match="info_metrics"):
        scripted("ConflictBandit", 5, steps=2, info_metrics=("success",))


def test_backends_collect_the_same_rollout():
    policy = make_policy("ComplexCartPole")
    perturb(policy)
    (a,), (b,) = (collect(policy, "ComplexCartPole", 3, 40, backend=backend) for backend in ("batched", "sync"))
    for name in (
        "obs",
        "task",
        "actions",
        "dist_params",
        "rewards",
        "terminated",
        "truncated",
        "final_obs",
        "last_obs",
    ):
        assert torch.equal(getattr(a, name), getattr(b, name)), name


def test_dist_params_are_those_of_the_actor():
    policy = make_policy("ComplexCartPole")
    perturb(policy)
    (rollout,) = collect(policy, "ComplexCartPole", 3, 40, mode="mean")
    with torch.no_grad():
        expected = policy.actor(rollout.obs.flatten(0, 1), rollout.task.flatten()).view(40, 3, 2)
    torch.testing.assert_close(rollout.dist_params, expected)
    assert len(rollout.actions.unique()) == 2


@pytest.mark.parametrize("backend", ["batched", "torch", "sync"])
def test_a_collector_goes_on_from_its_state(backend):
    """Two rollouts in a row equal one, its state as JSON, and the other by a new collector."""
    policy, suite = make_policy("ComplexCartPole"), get_suite("ComplexCartPole")
    perturb(policy)

    def make():
        envs = make_vector_env(suite, 3, backend, seed=3, task_assignment="cycle")
        return Collector(envs, suite.num_tasks)

    def act(k):
        return ActingPolicy(policy, make_actor_noise("rollout", policy.actor, 1), 1, k)

    whole = make()
    whole.collect(act(0), 30, 0)
    state = json.loads(json.dumps(whole.get_state()))
    expected = whole.collect(act(1), 40, 1)
    resumed = make()
    assert resumed.set_state(state) == 0
    found = resumed.collect(act(1), 40, 1)
    for field in dataclasses.fields(expected):
        value, other = getattr(expected, field.name), getattr(found, field.name)
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, other), field.name
    assert torch.equal(expected.episodes.returns, found.episodes.returns)
    assert torch.equal(expected.episodes.lengths, found.episodes.lengths)
    assert len(found.episodes.returns)
    assert found.env_steps == expected.env_steps == 210


def test_two_collectors_collect_what_one_does():
    """Each process steps its slice of the envs with the action noise of the whole."""
    policy, suite = make_policy("ComplexCartPole"), get_suite("ComplexCartPole")
    perturb(policy)

    def part(first, n):
        envs = make_vector_env(suite, n, seed=3, env_indices=range(first, first + n), total_envs=10)
        acting = ActingPolicy(policy, make_actor_noise("rollout", policy.actor, 1), 1, 0)
        return Collector(envs, suite.num_tasks, (), 10, first).collect(acting, 30, 0)

    whole, left, right = part(0, 10), part(0, 5), part(5, 5)
    for name in ("obs", "task", "actions", "rewards", "terminated", "final_obs"):
        assert torch.equal(torch.cat([getattr(left, name), getattr(right, name)], 1), getattr(whole, name)), name
    assert left.env_steps == right.env_steps == whole.env_steps == 300


class InPlace(gym.Env):
    """Observes the step in one array that it changes in place; truncated after five steps."""

    observation_space, action_space = Box(-1, 100, (1,), np.float32), Discrete(2)

    def __init__(self, scale=1.0):
        self.buffer, self.scale = np.zeros(1, np.float32), scale

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.buffer[:] = 0
        return self.buffer, {}

    def step(self, action):
        self.buffer += 1
        ended = bool(self.buffer[0] == 5)
        return self.buffer, self.scale, False, ended, {"score": 1 if self.scale == 0.1 else 0.7}


@pytest.fixture
def in_place():
    gym.register("InPlace-v0", InPlace)
    yield lambda *scales: get_suite(
        [{"id": "InPlace-v0", "name": str(k), "kwargs": {"scale": scale}} for k, scale in enumerate(scales)]
    )
    del gym.registry["InPlace-v0"]


def test_the_last_observation_of_an_env_that_changes_it_in_place(in_place):
    """A truncation is bootstrapped from it: with V(s) = s it must be 5, not the next episode's 0."""
    (rollout,), _ = scripted(in_place(1.0), 1, steps=10)
    assert rollout.obs.flatten().tolist() == [0, 1, 2, 3, 4] * 2
    assert rollout.final_obs.flatten().tolist() == [0, 0, 0, 0, 5] * 2


@pytest.mark.filterwarnings("ignore:.*float32 cannot tell:UserWarning")
def test_returns_and_info_metrics_are_summed_in_float64(in_place):
    (rollout,), _ = scripted(in_place(0.1, 3.3e7 + 1), 2, steps=5, info_metrics=("score",))
    assert rollout.episodes.returns.tolist() == [sum([0.1] * 5), 5 * (3.3e7 + 1)]
    assert rollout.episodes.info["score"].tolist() == [1.0, 0.7]  # not the type of the first one's
    assert rollout.rewards.dtype == torch.float32


@pytest.mark.parametrize("value", ["good", None, [1.0, 2.0], {"a": 1}])
def test_info_metrics_that_are_no_numbers_name_env_task_and_step(in_place, monkeypatch, value):
    step = InPlace.step
    monkeypatch.setattr(
        InPlace, "step", lambda self, action: (*step(self, action)[:-1], {"score": copy.deepcopy(value)})
    )
    with pytest.raises(ConfigError, match=r"^data.info_metrics: 'score' is .* in env 0 \(task 0\) at step 5 of its ep"):
        scripted(in_place(1.0, 2.0), 2, steps=5, info_metrics=("score",))
