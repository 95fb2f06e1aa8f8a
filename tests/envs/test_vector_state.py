"""get_state and set_state: the steps after a restore equal those of an undisturbed run, bit for bit."""

import json

import gymnasium as gym
import numpy as np
import pytest

from varshare_pl.envs import get_state, get_suite, make_vector_env, set_state

# Newer Pythons warn of a fork in a process with threads, which other tests may have started.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def steps(vec, actions):
    rows = []
    for action in actions:
        obs, rewards, terminated, truncated, info = vec.step(action)
        rows.append((obs, rewards, terminated, truncated, info["task"]))
    return rows


def assert_same(left, right):
    for a, b in zip(left, right, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


def is_plain(value):
    if isinstance(value, dict):
        return all(type(key) is str and is_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(is_plain(item) for item in value)
    return value is None or type(value) in (int, float, bool, str)


@pytest.mark.parametrize("suite", ["ComplexCartPole", "ConflictBandit"])
@pytest.mark.parametrize(("num_envs", "assignment"), [(5, "fixed"), (3, "cycle")])
@pytest.mark.parametrize("backend", ["batched", "torch", "sync", "async"])
@pytest.mark.parametrize("fresh", [True, False])
def test_continues_exactly(suite, num_envs, assignment, backend, fresh):
    def make():
        return make_vector_env(suite, num_envs, backend, seed=4, task_assignment=assignment)

    rng = np.random.default_rng(0)
    vec = make()
    vec.reset()
    actions = rng.integers(0, vec.single_action_space.n, (150, num_envs))
    before = steps(vec, actions[:37])  # mid-episode for most
    state = json.loads(json.dumps(get_state(vec)))  # a copy, and proof that it is plain
    assert is_plain(get_state(vec))
    undisturbed = steps(vec, actions[37:])
    if fresh:
        vec.close()
        vec = make()
    obs, task = set_state(vec, state)
    np.testing.assert_array_equal(obs, before[-1][0])
    np.testing.assert_array_equal(task, before[-1][4])
    assert obs.dtype == np.float32
    assert task.dtype == np.int64
    assert get_state(vec) == state
    assert_same(undisturbed, steps(vec, actions[37:]))
    vec.close()


@pytest.mark.parametrize("backend", ["batched", "torch", "sync"])
def test_time_limit_is_part_of_the_state(backend):
    vec = make_vector_env("CartPole", 1, backend)
    obs, _ = vec.reset()

    def run(obs):
        count = 0
        while True:
            count += 1
            action = (obs[:, 0] * 0.05 + obs[:, 1] * 0.1 + obs[:, 2] + 0.5 * obs[:, 3] > 0).astype(np.int64)
            obs, _, _, truncated, _ = vec.step(action)
            if truncated[0]:
                return count
            if count == 100 and "state" not in saved:
                saved["state"] = get_state(vec)

    saved = {}
    assert run(obs) == 500
    obs, _ = set_state(vec, saved["state"])
    assert run(obs) == 400


def test_states_pass_between_backends():
    batched = make_vector_env("ComplexCartPole", 3, task_assignment="cycle")
    sync = make_vector_env("ComplexCartPole", 3, "sync", task_assignment="cycle")
    batched.reset()
    actions = np.random.default_rng(0).integers(0, 2, (100, 3))
    steps(batched, actions)
    set_state(sync, get_state(batched))
    assert get_state(sync) == get_state(batched)
    assert_same(steps(sync, actions), steps(batched, actions))


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_env_that_cannot_tell_its_state_restarts_its_episode(backend):
    vec = make_vector_env([{"id": "CartPole-v1"}, {"id": "CartPole-v1"}], 3, backend, task_assignment="cycle")
    vec.reset()
    steps(vec, np.zeros((15, 3), dtype=np.int64))
    state = get_state(vec)
    assert [env["env"] for env in state["envs"]] == [None] * 3
    assert is_plain(state)
    obs, task = set_state(vec, state)
    np.testing.assert_array_equal(task, [env["task"] for env in state["envs"]])
    assert (np.abs(obs) <= 0.05).all()  # a first observation
    assert not any(np.array_equal(o, env["obs"]) for o, env in zip(obs, state["envs"], strict=True))
    again, _ = set_state(vec, state)
    np.testing.assert_array_equal(obs, again)
    vec.close()


def test_unknown_wrappers_are_not_resumed_mid_episode():
    # Frame stacking holds state that nobody saves here.
    gym.register(
        "Stacked-v0",
        entry_point=lambda: gym.wrappers.FrameStackObservation(gym.make("varshare_pl/CartPole-v0"), 2),
    )
    vec = make_vector_env([{"id": "Stacked-v0"}], 1)
    vec.reset()
    assert get_state(vec)["envs"][0]["env"] is None
    del gym.registry["Stacked-v0"]


def test_single_env_continues_exactly():
    env = get_suite("ComplexCartPole").make_task(2).unwrapped
    env.reset(seed=3)
    for _ in range(5):
        env.step(1)
    state = json.loads(json.dumps(env.get_state()))
    expected = [env.step(0)[0], env.step(1)[0], env.reset()[0]]
    other = get_suite("ComplexCartPole").make_task(2).unwrapped
    other.set_state(state)
    np.testing.assert_array_equal(expected, [other.step(0)[0], other.step(1)[0], other.reset()[0]])


@pytest.mark.parametrize("backend", ["batched", "torch", "sync"])
def test_no_state_before_the_first_reset(backend):
    with pytest.raises(gym.error.ResetNeeded):
        get_state(make_vector_env("CartPole", 1, backend))
