"""Meta-World's suites: its own envs and goals, in the protocol, on our random streams."""

import subprocess
import sys
from importlib.metadata import version

import gymnasium as gym
import numpy as np
import pytest

from varshare_pl.envs import get_suite, make_vector_env
from varshare_pl.envs.metaworld import BENCHMARKS, GOALS, TASKS, metaworld
from varshare_pl.errors import ConfigError

ACTION = np.array([0.5, 0.9, -0.4, 1.0], np.float32)


def make(task, **kwargs):
    return gym.make("varshare_pl/MetaWorld-v3", task=task, **kwargs)


def test_the_benchmarks_are_those_of_metaworld() -> None:
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS, MT10_V3

    assert [f"{task}-v3" for task in BENCHMARKS["MT10"]] == list(MT10_V3)
    assert [f"{task}-v3" for task in TASKS] == list(ALL_V3_ENVIRONMENTS)
    assert all(set(tasks) <= set(TASKS) for tasks in BENCHMARKS.values())


@pytest.mark.parametrize("task", ["pick-place", "lever-pull"])
def test_an_env_is_metaworlds_own_with_one_of_its_goals(task: str) -> None:
    """Beside it: Meta-World's env, set to the same goal by its own task, step by step."""
    import pickle

    from metaworld.env_dict import ALL_V3_ENVIRONMENTS
    from metaworld.types import Task

    env = make(task)
    obs, _ = env.reset(seed=3)
    theirs = ALL_V3_ENVIRONMENTS[f"{task}-v3"](reward_function_version="v2")
    data = {"env_cls": type(theirs), "rand_vec": env.unwrapped._last_rand_vec, "partially_observable": False}
    theirs.set_task(Task(f"{task}-v3", pickle.dumps(data)))
    expected, _ = theirs.reset()
    np.testing.assert_array_equal(obs, expected)
    assert obs.shape == (39,)
    assert obs.dtype == np.float64
    assert (obs[-3:] != 0).any(), "the goal is observed"
    for _ in range(30):
        (obs, reward, *_, info), (expected, their_reward, *_, their_info) = env.step(ACTION), theirs.step(ACTION)
        np.testing.assert_array_equal(obs, expected)
        assert (reward, info) == (their_reward, their_info)


def test_goals_are_50_drawn_as_metaworld_draws_them() -> None:
    """Beside it: Meta-World's resets with the hand's whole way, from a generator of the same seed."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    goals = make("push", goal_seed=7).get_wrapper_attr("goals")
    assert goals.shape == (GOALS, 6)
    assert len(np.unique(goals, axis=0)) == GOALS
    env = ALL_V3_ENVIRONMENTS["push-v3"]()
    env._freeze_rand_vec, env.seeded_rand_vec, env._set_task_called = False, True, True
    env.np_random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([7, TASKS.index("push")])))
    for goal in goals[:5]:
        env.reset()
        np.testing.assert_array_equal(goal, env._last_rand_vec)
    assert not np.array_equal(goals, make("push", goal_seed=8).get_wrapper_attr("goals"))
    # Tasks that draw from one box must not get the same goals.
    assert not np.array_equal(goals[:, -3:], make("reach", goal_seed=7).get_wrapper_attr("goals")[:, -3:])


def test_a_reset_obeys_the_seed_and_forgets_what_was() -> None:
    env, other = make("window-open"), make("window-open")
    firsts = [env.reset(seed=seed)[0] for seed in (5, 5, 6)]
    np.testing.assert_array_equal(firsts[0], firsts[1])
    assert not np.array_equal(firsts[0], firsts[2])
    other.reset(seed=1)
    for _ in range(40):
        other.step(ACTION)
    np.testing.assert_array_equal(other.reset(seed=5)[0], firsts[0])
    env.reset(seed=5)
    seen = {tuple(env.reset()[0]) for _ in range(12)}
    assert len(seen) > 6, "without a seed the stream goes on"


def test_an_episode_ends_by_truncation_only() -> None:
    for horizon, kwargs in ((500, {}), (40, {"max_episode_steps": 40})):
        env = make("button-press-topdown", **kwargs)
        env.reset(seed=1)
        ends = [env.step(ACTION)[2:4] for _ in range(horizon)]
        assert ends == [(False, False)] * (horizon - 1) + [(False, True)]


def test_reward_versions_differ() -> None:
    envs = {v: make("reach", reward_version=v) for v in ("v1", "v2")}
    obs = {v: env.reset(seed=1)[0] for v, env in envs.items()}
    np.testing.assert_array_equal(obs["v1"], obs["v2"])
    assert envs["v1"].step(ACTION)[1] != envs["v2"].step(ACTION)[1]


def test_the_suite_says_its_protocol() -> None:
    suite = get_suite("MetaWorld")
    assert suite.name == "MetaWorldMT10"
    assert [task.name for task in suite.tasks] == list(BENCHMARKS["MT10"])
    assert (suite.success.info, suite.success.reduce, suite.success.solved) == ("success", "any", 0.9)
    assert suite.solved_return is None
    told = "reward v2, horizon 500, 50 goals a task (goal_seed 0), success at any step"
    assert suite.protocol == f"Meta-World {version('metaworld')}, MuJoCo {version('mujoco')}, {told}"
    assert suite.observation_space.shape == (39,)
    assert len(set(suite.identities())) == 10
    other = metaworld("MT3", reward_version="v1", horizon=200)
    assert other.name == "MetaWorldMT3_v1_200_steps"
    assert [metaworld(name).num_tasks for name in ("MT3", "MT5-fast", "MT50")] == [3, 5, 50]


def test_tasks_step_side_by_side() -> None:
    suite = metaworld("MT5-fast")
    vec = make_vector_env(suite, 5, seed=1)
    obs, info = vec.reset()
    assert info["task"].tolist() == [0, 1, 2, 3, 4]
    obs, rewards, *_, info = vec.step(np.tile(ACTION, (5, 1)))
    assert obs.shape == (5, 39)
    assert ((rewards >= 0) & (rewards <= 10)).all()
    assert set(info["success"].tolist()) <= {0.0, 1.0}
    vec.close()


def test_the_suite_is_known_without_loading_metaworld() -> None:
    code = "import sys; from varshare_pl.envs import get_suite; get_suite('MetaWorld').env_spec()"
    code += "; print({'mujoco', 'metaworld'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")


BAD = [
    ({"benchmark": "MT11"}, "suite.benchmark='MT11': allowed: MT3, MT5-fast, MT10, MT50"),
    ({"reward_version": "v3"}, "suite.reward_version='v3': allowed: v1, v2"),
    ({"horizon": 501}, "suite.horizon: 501 is not allowed; an integer from 1 to 500 is"),
    ({"horizon": 99.5}, "suite.horizon=99.5: allowed: an integer"),
    ({"goal_seed": -1}, "suite.goal_seed: -1 is not allowed; an integer of at least 0 is"),
    ({"solved": 50}, "suite.solved: 50 is not allowed; a number above 0, up to 1, is"),
]


@pytest.mark.parametrize(("options", "line"), BAD)
def test_a_bad_option_is_one_line(options: dict, line: str) -> None:
    with pytest.raises(ConfigError) as error:
        get_suite({"name": "MetaWorld", **options})
    assert str(error.value) == line


def test_a_task_that_is_not_there_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^kwargs.task: 'fly' is not allowed; allowed: assembly, .*[^\n]$"):
        make("fly")


def test_without_the_extra_an_env_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "metaworld", None)
    with pytest.raises(ConfigError, match=r"needs the package metaworld, .* pip install 'varshare-pl\[metaworld\]'$"):
        make("reach")


def test_metaworlds_own_wrappers_go_on() -> None:
    import metaworld as theirs

    from varshare_pl.envs.wrapper_state import get_wrapper_states, set_wrapper_states

    def own():
        return theirs.make_mt_envs("reach-v3", seed=4, task_select="pseudorandom")

    env = own()
    for _ in range(53):  # the tasks were shuffled once
        env.get_wrapper_attr("sample_tasks")()
    states = get_wrapper_states(env)
    assert None not in states
    other = own()
    other.get_wrapper_attr("sample_tasks")()
    set_wrapper_states(other, states)
    assert get_wrapper_states(other) == states
    for each in (env, other):  # the stream, by which tasks are shuffled, is told apart from wrappers
        each.unwrapped.np_random = np.random.default_rng(1)
    for _ in range(60):
        firsts = [e.get_wrapper_attr("sample_tasks")()[0] for e in (env, other)]
        np.testing.assert_array_equal(*firsts)
