"""Suites as mappings: wrappers by path, time limits, name, success and anchors; suites that ship, with options."""

import sys

import gymnasium as gym
import numpy as np
import pytest

from varshare_pl.envs import SUITES, get_suite, make_vector_env
from varshare_pl.envs.success import SuccessMeasure
from varshare_pl.envs.tasks import GymTask
from varshare_pl.envs.wrapper_state import layers
from varshare_pl.errors import ConfigError
from varshare_pl.types import Anchors

STACK = "gymnasium.wrappers.FrameStackObservation"
FLAT = "gymnasium.wrappers.FlattenObservation"
CLIP = "gymnasium.wrappers.ClipReward"


def kinds(env):
    return [type(layer).__name__ for layer in layers(env)]


def test_wrappers_of_the_suite_are_outermost_and_keep_their_order():
    suite = get_suite(
        {
            "tasks": [{"id": "CartPole-v1", "wrappers": [{CLIP: {"max_reward": 0.5}}]}, "CartPole-v1"],
            "wrappers": [{STACK: {"stack_size": 3}}, FLAT],
        }
    )
    assert suite.observation_space.shape == (12,)
    first, second = (kinds(suite.make_task(k)) for k in range(2))
    assert [name for name in first if name in ("FlattenObservation", "FrameStackObservation", "ClipReward")] == [
        "FlattenObservation",
        "FrameStackObservation",
        "ClipReward",
    ]
    assert "ClipReward" not in second
    vec = make_vector_env(suite, 2, "sync", seed=4)
    reference = gym.make("CartPole-v1")
    obs, _ = vec.reset(seed=4)
    start, _ = reference.reset(seed=4)
    np.testing.assert_array_equal(obs[0], np.tile(start, 3))
    obs, reward, *_ = vec.step(np.array([1, 1]))
    after = reference.step(1)[0]
    np.testing.assert_array_equal(obs[0], np.concatenate([start, start, after]))
    np.testing.assert_array_equal(reward, [0.5, 1.0])


def test_a_tasks_time_limit_comes_before_the_suites_and_both_replace_the_ids():
    suite = get_suite({"tasks": [{"id": "Acrobot-v1", "time_limit": 3}, "Acrobot-v1"], "time_limit": 5})
    lengths = []
    for k in range(2):
        env = suite.make_task(k)
        env.reset(seed=0)
        steps = next(t for t in range(1, 600) if env.step(0)[3])
        lengths.append(steps)
    assert lengths == [3, 5]
    assert get_suite(["Acrobot-v1"]).make_task(0).spec.max_episode_steps == 500


def test_tasks_are_told_apart_by_wrappers_and_time_limit():
    def identity(**more):
        return get_suite([GymTask("CartPole-v1", name="a", **more)]).identities()[0]

    told = [
        identity(),
        identity(time_limit=5),
        identity(time_limit=6),
        identity(wrappers=[FLAT]),
        identity(wrappers=[{CLIP: {"max_reward": 1.0}}]),
        identity(wrappers=[{CLIP: {"max_reward": 2.0}}]),
    ]
    assert len(set(told)) == len(told)
    assert told[0] == "a: CartPole-v1 {} {}"  # as in checkpoints of before
    of_suite = get_suite({"tasks": [{"id": "CartPole-v1", "name": "a"}], "time_limit": 5, "wrappers": [FLAT]})
    assert of_suite.identities()[0] == identity(time_limit=5, wrappers=[FLAT])


def test_name_success_and_anchors():
    tasks = ["CartPole-v1", {"id": "CartPole-v1", "name": "second"}]
    suite = get_suite(
        {
            "name": "Poles",
            "tasks": tasks,
            "success": {"info": "balanced", "reduce": "last", "solved": 0.9},
            "anchors": {"low": [20, 30], "high": 500},
        }
    )
    assert suite.name == suite.env_spec().suite == "Poles"
    assert suite.success == SuccessMeasure("balanced", "last", 0.9)
    assert suite.solved_return is None
    assert suite.anchors == Anchors((20.0, 30.0), (500.0, 500.0))
    np.testing.assert_allclose(suite.anchors.scores(np.array([260.0, 30.0])), [0.5, 0.0])
    assert get_suite({"tasks": tasks, "success": {"solved": 100}}).solved_return == 100.0
    plain = get_suite({"tasks": tasks})
    assert (plain.name, plain.success.solved, plain.anchors) == ("CartPole-v1", 475.0, None)
    assert get_suite({"tasks": tasks, "success": {"info": "x"}}).success == SuccessMeasure("x", "any", None)


def test_a_suite_that_ships_by_mapping_is_that_of_its_name():
    assert get_suite({"name": "CartPole"}).env_spec() == get_suite("CartPole").env_spec()
    half = get_suite({"name": "LunarLander", "mirrored": False})
    assert (half.num_tasks, get_suite("LunarLander").num_tasks) == (3, 6)
    assert half.identities() == get_suite("LunarLander").identities()[:3]


@pytest.mark.parametrize(
    ("suite", "package"),
    [
        ("MiniGrid", "minigrid"),
        ("LunarLander", "Box2D"),
        ("MetaWorld", "metaworld"),
        ("CheetahFamily", "mujoco"),
        ("HopperFamily", "mujoco"),
    ],
)
def test_a_missing_extra_is_one_line(suite, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError) as error:
        get_suite(suite)
    assert f"suite={suite!r}: needs the package {package}, which cannot be imported" in str(error.value)
    assert f"pip install 'varshare-pl[{package.lower()}]'" in str(error.value)
    assert "\n" not in str(error.value)
    assert suite in SUITES


def test_tasks_of_several_sizes_are_padded_and_only_if_asked():
    tasks = [{"id": "CartPole-v1"}, {"id": "Acrobot-v1"}]
    suite = get_suite({"tasks": tasks, "pad": True})
    assert suite.observation_space.shape == (6,)
    assert suite.action_space == gym.spaces.Discrete(3)
    assert suite.action_counts == suite.env_spec().action_counts == (2, 3)
    vec = make_vector_env(suite, 2, "sync")
    obs, _ = vec.reset(seed=9)
    np.testing.assert_array_equal(obs[0], [*gym.make("CartPole-v1").reset(seed=9)[0], 0.0, 0.0])
    np.testing.assert_array_equal(obs[1], gym.make("Acrobot-v1").reset(seed=10)[0])
    alike = get_suite({"tasks": ["CartPole-v1", "CartPole-v1"], "pad": True})
    assert alike.action_counts == ()
    with pytest.raises(ConfigError, match="need pad: true"):
        get_suite(tasks)


def test_actions_in_a_shorter_box_are_the_first_ones():
    from varshare_pl.envs.actions import CommonActions, common_actions

    short, long = gym.make("Pendulum-v1"), gym.spaces.Box(-2.0, 2.0, (3,))
    space = common_actions([short.action_space, long], pad=True)
    assert space == long
    reference = gym.make("Pendulum-v1")
    padded = CommonActions(short, space)
    padded.reset(seed=1)
    reference.reset(seed=1)
    np.testing.assert_array_equal(
        padded.step(np.array([1.5, 9.0, 9.0], np.float32))[0], reference.step(np.array([1.5], np.float32))[0]
    )
    for others, text in (
        ([short.action_space, long], "sizes that differ need pad: true"),
        ([short.action_space, gym.spaces.Discrete(2)], "suite.1.: acts in Discrete.2., suite.0. in Box"),
    ):
        with pytest.raises(ConfigError, match=text):
            common_actions(others)
    with pytest.raises(ConfigError, match="as another task has it"):
        common_actions([gym.spaces.Box(-1.0, 1.0, (1,)), long], pad=True)
