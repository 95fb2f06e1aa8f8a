"""The Gymnasium ids: API, rendering, and what importing the package loads."""

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from varshare_pl.envs import PHYSICS_SUITES, get_suite, make_vector_env
from varshare_pl.envs.registration import register_envs
from varshare_pl.errors import ConfigError

POINT_MASSES = ("PointMassDial", "PointMassClusters", "PointMassOutlier", "PointMassGoals")
TASKS = [(name, k) for name in PHYSICS_SUITES for k in range(get_suite(name).num_tasks)]


@pytest.fixture(autouse=True)
def _no_display(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


@pytest.mark.parametrize(("suite", "task"), TASKS)
@pytest.mark.filterwarnings("ignore:.*For Box action spaces, we recommend")  # Pendulum's is Gymnasium's own
def test_check_env(suite, task):
    env = gym.make(f"varshare_pl/{suite}-v0", task=task)
    check_env(env.unwrapped, skip_render_check=task > 0)  # warnings are errors here
    assert env.unwrapped.task == task
    assert env.spec.max_episode_steps == get_suite(suite).dynamics.max_episode_steps


@pytest.mark.parametrize("name", PHYSICS_SUITES)
def test_a_suites_tasks_are_told_apart_and_have_its_spaces(name):
    suite = get_suite(name)
    assert len({task.name for task in suite.tasks}) == suite.num_tasks == suite.dynamics.num_tasks
    for k in range(suite.num_tasks):
        env = suite.make_task(k)
        assert env.observation_space == suite.observation_space
        assert env.action_space == suite.action_space
        assert env.unwrapped.task == k


BOX = gym.spaces.Box
SHIPPED = {  # tasks, time limit, actions, solved return
    "CartPole": (1, 500, gym.spaces.Discrete(2), 475.0),
    "ComplexCartPole": (5, 500, gym.spaces.Discrete(2), 475.0),
    "IdenticalCartPole": (5, 500, gym.spaces.Discrete(2), 475.0),
    "MultiTaskCartPole": (6, 500, gym.spaces.Discrete(2), 475.0),
    "MirroredCartPole": (2, 500, gym.spaces.Discrete(2), 475.0),
    "PendulumFamily": (6, 200, BOX(-2.0, 2.0, (1,)), -250.0),
    **dict.fromkeys(POINT_MASSES, (6, 40, BOX(-1.0, 1.0, (2,)), None)),
    "MountainCarLadder": (6, 300, BOX(-1.0, 1.0, (1,)), None),
    "ConflictBandit": (5, None, gym.spaces.Discrete(5), 0.95),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_suites_are_what_published_results_were_measured_on(name):
    suite = get_suite(name)
    found = (suite.num_tasks, suite.dynamics.max_episode_steps, suite.action_space, suite.solved_return)
    assert found == SHIPPED[name]


def test_registering_again_changes_nothing():
    before = {key: id(spec) for key, spec in gym.registry.items()}
    register_envs()
    assert before == {key: id(spec) for key, spec in gym.registry.items()}


def test_import_is_light():
    code = (
        "import sys, varshare_pl, gymnasium\n"
        "gymnasium.spec('varshare_pl/CartPole-v0')\n"
        "assert varshare_pl.__version__\n"
        "import varshare_pl.envs\n"
        "varshare_pl.envs.make_vector_env('CartPole', 2).reset()\n"
        "print([m for m in ('torch', 'lightning', 'matplotlib', 'pygame') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_rendering_follows_state_and_task():
    suite = get_suite("ComplexCartPole")
    images = []
    for k in (0, 2, 4):
        env = suite.make_task(k, render_mode="rgb_array")
        env.reset(seed=0)
        images.append(env.render())
        for _ in range(8):
            env.step(1)
        images.append(env.render())
        env.close()
    for image in images:
        assert image.shape == (400, 600, 3)
        assert image.dtype == np.uint8
        assert len(np.unique(image)) > 2
    for i, image in enumerate(images):
        assert not any(np.array_equal(image, other) for other in images[:i])


def pole_height(image):
    rows = np.flatnonzero((image == (202, 152, 101)).all(axis=2).any(axis=1))
    return rows[-1] - rows[0]


def test_pole_is_drawn_to_scale():
    suite = get_suite("ComplexCartPole")
    heights = []
    for k in (1, 0, 2):  # 0.5 m, 1 m and 2 m
        env = suite.make_task(k, render_mode="rgb_array")
        env.reset(seed=0)
        env.unwrapped.state = (0.0, 0.0, 0.0, 0.0)
        heights.append(pole_height(env.render()))
    np.testing.assert_allclose(heights, [62.5, 125, 250], atol=3)


@pytest.mark.parametrize("backend", ["batched", "torch"])
def test_a_batch_renders_like_single_envs(backend):
    vec = make_vector_env("ComplexCartPole", 5, backend, render_mode="rgb_array")
    vec.reset(seed=0)
    vec.step(np.array([0, 1, 0, 1, 0]))
    frames = vec.render()
    vec.close()
    for k, frame in enumerate(frames):
        env = get_suite("ComplexCartPole").make_task(k, render_mode="rgb_array")
        env.reset(seed=k)
        env.step(k % 2)
        np.testing.assert_array_equal(frame, env.render())


def test_human_rendering():
    env = gym.make("varshare_pl/CartPole-v0", render_mode="human")
    env.reset(seed=0)
    env.step(0)
    assert env.render() is None
    env.close()
    env.close()


def test_missing_pygame_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    env = gym.make("varshare_pl/CartPole-v0", render_mode="rgb_array")
    env.reset(seed=0)
    with pytest.raises(gym.error.DependencyNotInstalled, match=r'pip install "varshare-pl\[render\]"'):
        env.render()


@pytest.mark.parametrize("task", [5, -1, True, "0", 1.0, None])
def test_bad_task(task):
    with pytest.raises(ConfigError, match="must be an integer from 0 to 4"):
        gym.make("varshare_pl/ComplexCartPole-v0", task=task)


def test_bandit_cannot_be_rendered():
    with pytest.raises(ConfigError, match="render_mode='rgb_array': allowed: None"):
        gym.make("varshare_pl/ConflictBandit-v0", render_mode="rgb_array")
