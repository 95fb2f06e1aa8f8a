"""get_state and set_state: the steps after a restore equal those of an undisturbed run, bit for bit."""

import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from helpers import random_actions

from varshare_pl.envs import get_state, get_suite, make_vector_env, set_state
from varshare_pl.errors import ConfigError, EnvError


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


CASES = [(suite, *how) for suite in ("ComplexCartPole", "ConflictBandit") for how in ((5, "fixed"), (3, "cycle"))]


PENDULUM = ("PendulumFamily", 6, "fixed")


@pytest.mark.parametrize("backend", ["batched", "torch", "sync", "workers"])
@pytest.mark.parametrize(
    ("suite", "num_envs", "assignment", "fresh"),
    [(*case, True) for case in (*CASES, PENDULUM)] + [(*CASES[1], False), (*CASES[2], False)],
)
def test_continues_exactly(suite, num_envs, assignment, backend, fresh):
    def make():
        return make_vector_env(suite, num_envs, backend, seed=4, task_assignment=assignment)

    vec = make()
    vec.reset()
    actions = random_actions(vec.single_action_space, 450 if suite == "PendulumFamily" else 150, num_envs)
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


class Closed(CartPoleEnv):
    """Holds what is no plain data."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.held = object()


@pytest.fixture
def closed():
    gym.register("Closed-v0", Closed)
    yield {"id": "Closed-v0"}
    gym.registry.pop("Closed-v0")


@pytest.mark.parametrize("backend", ["sync", "workers"])
def test_env_that_cannot_tell_its_state_restarts_its_episode(closed, backend):
    vec = make_vector_env([closed, closed], 3, backend, task_assignment="cycle")
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


class Tally(gym.Wrapper):
    """A wrapper of a user's own: doubles every third reward of its life."""

    def __init__(self, env):
        super().__init__(env)
        self.count = 0

    def step(self, action):
        obs, reward, *rest = super().step(action)
        self.count += 1
        return obs, reward * (2 if self.count % 3 == 0 else 1), *rest


class Teller(Tally):
    """The same with methods of its own, and something that is no plain data."""

    def __init__(self, env):
        super().__init__(env)
        self.call = lambda: None

    def get_state(self):
        return {"count": np.int64(self.count)}

    def set_state(self, state):
        self.count = state["count"]


class Hidden(gym.Wrapper):
    """Keeps its count where nobody sees it."""

    def __init__(self, env):
        super().__init__(env)
        self.count = iter(range(10**9)).__next__


WRAPPERS = {
    "limit": lambda env: wrappers.TimeLimit(env, 7),
    "stack": lambda env: wrappers.FrameStackObservation(env, 3),
    "delay": lambda env: wrappers.DelayObservation(env, 2),
    "time": lambda env: wrappers.TimeAwareObservation(wrappers.TimeLimit(env, 20), normalize_time=False),
    "normal obs": wrappers.NormalizeObservation,
    "normal reward": wrappers.NormalizeReward,
    "sticky": lambda env: wrappers.StickyAction(env, 0.5),
    "statistics": wrappers.RecordEpisodeStatistics,
    "clip": lambda env: wrappers.ClipReward(env, max_reward=0.5),
    "all": lambda env: wrappers.FrameStackObservation(
        wrappers.NormalizeObservation(wrappers.TimeLimit(Tally(wrappers.StickyAction(env, 0.5)), 6)), 2
    ),
    "tally": Tally,
    "teller": Teller,
}


@pytest.fixture
def register():
    def make(wrap):
        gym.register(
            "Wrapped-v0",
            lambda: wrap(gym.make("varshare_pl/ComplexCartPole-v0", task=0).env),
            max_episode_steps=400,
        )

    yield make
    gym.registry.pop("Wrapped-v0", None)


@pytest.mark.parametrize("cycle", [False, True])
@pytest.mark.parametrize("name", WRAPPERS)
def test_what_wrappers_remember_is_part_of_the_state(register, name, cycle):
    """Also in a cycle: what the wrappers of the tasks that an env does not have now remember."""
    register(WRAPPERS[name])

    def make():
        tasks = [{"id": "Wrapped-v0"}] * (2 if cycle else 1)
        return make_vector_env(tasks, 1, seed=2, task_assignment="cycle" if cycle else "auto")

    def told(vec, actions):
        """Also what the last infos tell, but for the time that it took."""
        rows = []
        for action in actions:
            obs, rewards, terminated, truncated, info = vec.step(action)
            episode = info.get("final_info", {}).get("episode", {})
            numbers = [episode[key][0] for key in ("r", "l") if key in episode]
            rows.append((obs, rewards, terminated, truncated, info["task"], np.array(numbers)))
        return rows

    vec, actions = make(), np.random.default_rng(1).integers(0, 2, (120, 1))
    vec.reset()
    steps(vec, actions[:59])
    state = json.loads(json.dumps(get_state(vec)))
    assert state["envs"][0]["env"] is not None
    expected = told(vec, actions[59:])
    resumed = make()
    set_state(resumed, state)
    assert get_state(resumed) == state
    assert_same(expected, told(resumed, actions[59:]))
    assert any(row[2][0] or row[3][0] for row in expected)


def test_a_wrapper_that_keeps_what_is_no_plain_data_is_not_resumed_mid_episode(register):
    register(lambda env: Hidden(wrappers.NormalizeObservation(env)))
    vec = make_vector_env([{"id": "Wrapped-v0"}], 1)
    vec.reset()
    steps(vec, np.zeros((5, 1), dtype=np.int64))
    state = get_state(vec)
    assert state["envs"][0]["env"] is None
    # What is known of the others outlives the episode that is lost.
    other = make_vector_env([{"id": "Wrapped-v0"}], 1)
    set_state(other, state)
    assert get_state(other)["envs"][0]["wrappers"][2]["obs_rms"]["__moments__"]["count"] > 6


class Memory(gym.Env):
    """What it tells is what it must not forget; two of three attributes are arrays."""

    observation_space, action_space = gym.spaces.Box(-9, 9, (2,)), gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = np.zeros(2, np.float32)
        self.life = getattr(self, "life", 0) + 1
        return self.place, {}

    def step(self, action):
        self.place[action] += 1
        return self.place, float(self.life), bool(self.place.sum() == 4), False, {}

    def get_state(self):
        return {"place": self.place, "life": (self.life,)}

    def set_state(self, state):
        self.place, (self.life,) = state["place"], state["life"]


@pytest.mark.parametrize("backend", ["sync", "workers"])
def test_arrays_and_tuples_are_plain_enough_and_no_task_of_a_cycle_is_forgotten(register, backend):
    gym.register("Wrapped-v0", Memory)

    def make():
        return make_vector_env([{"id": "Wrapped-v0"}] * 3, 2, backend, task_assignment="cycle")

    vec, actions = make(), np.zeros((40, 2), np.int64)
    vec.reset()
    steps(vec, actions[:22])
    state = json.loads(json.dumps(get_state(vec)))
    expected = steps(vec, actions[22:])
    vec.close()
    vec = make()
    set_state(vec, state)
    assert_same(expected, steps(vec, actions[22:]))
    assert max(row[1][0] for row in expected) == 4.0
    vec.close()


def test_a_state_that_is_no_plain_data_is_one_line(register):
    class Odd(Memory):
        def get_state(self):
            return {"place": object()}

    gym.register("Wrapped-v0", Odd)
    vec = make_vector_env([{"id": "Wrapped-v0", "name": "odd"}], 1)
    vec.reset()
    with pytest.raises(
        EnvError, match=r"^env 0 \(task 0, odd\) at step 0 of its episode has a object in what its get_st"
    ):
        get_state(vec)


def test_the_state_of_an_earlier_version_is_refused():
    vec = make_vector_env("CartPole", 1)
    vec.reset()
    state = get_state(vec)
    del state["envs"][0]["wrappers"]
    with pytest.raises(ConfigError, match="state: it was written by an earlier version"):
        set_state(vec, state)


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
