"""Suites made of any Gymnasium envs."""

import re

import gymnasium as gym
import numpy as np
import pytest

from varshare_pl.envs import GymTask, get_suite, make_vector_env
from varshare_pl.errors import ConfigError

# Newer Pythons warn of a fork in a process with threads, which other tests may have started.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

ACROBOTS = [
    {"id": "Acrobot-v1"},
    GymTask("Acrobot-v1", attributes={"LINK_MASS_2": 1.5}),
    {"id": "Acrobot-v1", "attributes": {"LINK_LENGTH_1": 0.5}, "name": "short arm"},
]


class Wide(gym.Env):
    """Another range and precision than CartPole, the same shape and actions."""

    observation_space = gym.spaces.Box(-9.0, 2.0, (4,), dtype=np.float64)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.uniform(-1, 1, 4), {}

    def step(self, action):
        return self.np_random.uniform(-1, 1, 4), 0.5, False, False, {"extra": 3}


@pytest.fixture
def wide():
    gym.register("Wide-v0", entry_point=Wide, max_episode_steps=3, reward_threshold=7.0)
    yield "Wide-v0"
    del gym.registry["Wide-v0"]


def test_suite_of_acrobots():
    suite = get_suite(ACROBOTS)
    assert suite.name == "Acrobot-v1"
    assert [task.name for task in suite.tasks] == ["Acrobot-v1", "Acrobot-v1 LINK_MASS_2=1.5", "short arm"]
    assert suite.action_space.n == 3
    assert suite.dynamics is None
    assert suite.solved_return == gym.spec("Acrobot-v1").reward_threshold == -100
    assert suite.observation_space == gym.make("Acrobot-v1").observation_space


def test_attributes_change_the_dynamics():
    vec = make_vector_env(ACROBOTS, 3, "sync")
    references = [gym.make("Acrobot-v1").unwrapped for _ in range(3)]
    references[1].LINK_MASS_2 = 1.5
    references[2].LINK_LENGTH_1 = 0.5
    obs, info = vec.reset(seed=3)
    np.testing.assert_array_equal(info["task"], [0, 1, 2])
    np.testing.assert_array_equal(obs, [env.reset(seed=3 + i)[0] for i, env in enumerate(references)])
    outcomes = []
    for _ in range(20):
        obs = vec.step(np.array([2, 2, 2]))[0]
        np.testing.assert_array_equal(obs, [env.step(2)[0] for env in references])
    same_start = [get_suite(ACROBOTS).make_task(k) for k in range(3)]
    for env in same_start:
        env.reset(seed=0)
        outcomes.append([env.step(2)[0] for _ in range(20)][-1])
    assert len(np.unique(outcomes, axis=0)) == 3


def test_common_box_is_the_union(wide):
    suite = get_suite([{"id": "CartPole-v1"}, {"id": wide}])
    cartpole = gym.make("CartPole-v1").observation_space
    np.testing.assert_array_equal(suite.observation_space.low, np.minimum(cartpole.low, -9))
    np.testing.assert_array_equal(suite.observation_space.high, np.maximum(cartpole.high, 2))
    assert suite.observation_space.dtype == np.float64  # in which one of them observes
    assert suite.name == "CartPole-v1+Wide-v0"
    assert suite.solved_return is None  # 475 and 7
    for backend in ("sync", "workers"):
        vec = make_vector_env(suite, 2, backend, info_keys=("extra",))
        obs, _ = vec.reset()
        assert obs.dtype == np.float64
        *_, info = vec.step(np.array([0, 0]))
        np.testing.assert_array_equal(info["extra"], [0, 3])
        vec.close()


def test_all_tasks_of_a_cycle_share_one_stream(wide):
    # Wide draws 4 numbers at every reset and step; a plain generator must give the same ones in the same order.
    vec = make_vector_env([{"id": wide}, {"id": wide}], 1, "sync", seed=5)
    obs, _ = vec.reset()
    rng = gym.utils.seeding.np_random(vec.envs[0]._stream_seed)[0]
    for t in range(1, 12):
        np.testing.assert_array_equal(obs[0], rng.uniform(-1, 1, 4))
        obs, *_, info = vec.step(np.array([0]))
        assert info["task"][0] == t // 3 % 2
        if t % 3 == 0:
            np.testing.assert_array_equal(info["final_obs"][0], rng.uniform(-1, 1, 4))


def test_overrides_and_suites_pass_through():
    suite = get_suite(ACROBOTS, name="arms", solved_return=-90)
    assert (suite.name, suite.solved_return) == ("arms", -90.0)
    assert get_suite(suite) is suite
    assert get_suite("CartPole", solved_return=400).solved_return == 400.0
    assert make_vector_env(suite, 3).num_envs == 3


def test_a_bare_id_is_a_task():
    suite = get_suite(["Acrobot-v1", {"id": "Acrobot-v1", "name": "second"}])
    assert suite.num_tasks == 2
    assert suite.tasks[0].env_id == "Acrobot-v1"


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        (5, "a text is, in YAML between quotes"),
        (True, "a text is, in YAML between quotes"),
        ("", "a text with something to see is"),
        (" \n", "a text with something to see is"),
        ("\u200b", "a text with something to see is"),
        ("half \ud800", "a text of whole characters is"),
    ],
)
def test_names_that_are_refused(name, allowed):
    message = re.escape(f"suite[1].name: {name!r} is not allowed; {allowed}")
    with pytest.raises(ConfigError, match=message):
        get_suite(["CartPole-v1", {"id": "CartPole-v1", "name": name}])


@pytest.mark.parametrize("name", ["$x$ a|b", "日本語 😀", "😀", "two\nlines", "_", "\x1b[31mred"])
def test_any_other_text_is_a_name(name):
    assert get_suite([{"id": "CartPole-v1", "name": name}]).tasks[0].name == name


def test_a_name_twice():
    with pytest.raises(ConfigError, match=r"suite\[1\]\.name='a': another task has that name; names must differ"):
        get_suite([{"id": "CartPole-v1", "name": "a"}, {"id": "CartPole-v1", "name": "a"}])
