"""The MiniGrid suites against the envs of the package itself."""

import gymnasium as gym
import numpy as np
import pytest

from varshare_pl.envs import get_suite, make_vector_env
from varshare_pl.envs.minigrid import LARGEST, TASKS

pytest.importorskip("minigrid")
# Of the published code of MOORE: each env's max_steps.
HORIZONS = {
    "LavaGapS7": 196,
    "RedBlueDoors-6x6": 720,
    "MemoryS11": 605,
    "DoorKey-6x6": 360,
    "DistShift1": 252,
    "SimpleCrossingS9N2": 324,
    "MultiRoom-N2-S4": 40,
}


def test_the_largest_number_is_that_of_the_package():
    from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX, STATE_TO_IDX

    assert max(*OBJECT_TO_IDX.values(), *COLOR_TO_IDX.values(), *STATE_TO_IDX.values(), 3) == LARGEST


@pytest.mark.parametrize("benchmark", TASKS)
def test_views_and_rewards_are_those_of_the_package(benchmark):
    suite = get_suite({"name": "MiniGrid", "benchmark": benchmark})
    assert suite.name == f"MiniGrid{benchmark}"
    assert suite.num_tasks == int(benchmark[2:])
    assert (suite.observation_space.dtype, suite.observation_space.shape) == (np.uint8, (7, 7, 3))
    assert suite.action_space == gym.spaces.Discrete(7)
    m = suite.num_tasks
    vec = make_vector_env(suite, m, "sync")
    references = [gym.make(f"MiniGrid-{name}-v0") for name in TASKS[benchmark]]
    obs, _ = vec.reset(seed=3)
    expected = [env.reset(seed=3 + k)[0]["image"] for k, env in enumerate(references)]
    np.testing.assert_array_equal(obs, expected)
    rng = np.random.default_rng(0)
    for _ in range(25):
        actions = rng.integers(0, 7, m)
        obs, reward, terminated, truncated, _ = vec.step(actions)
        steps = [env.step(int(a)) for env, a in zip(references, actions, strict=True)]
        on = ~(terminated | truncated)
        np.testing.assert_array_equal(obs[on], np.array([step[0]["image"] for step in steps])[on])
        np.testing.assert_array_equal(reward, [step[1] for step in steps])
        if not on.all():
            break
    vec.close()


def test_an_episode_is_as_long_as_in_the_paper():
    suite = get_suite({"name": "MiniGrid", "benchmark": "MT7"})
    for k, task in enumerate(suite.tasks):
        env = suite.make_task(k)
        env.reset(seed=0)
        turned = [env.step(0) for _ in range(HORIZONS[task.name])]  # to turn ends no episode
        assert [step[3] for step in turned] == [False] * (len(turned) - 1) + [True]
        env.close()
