"""The LunarLander family against Gymnasium's own env."""

import gymnasium as gym
import numpy as np
import pytest

from varshare_pl.envs import get_suite, make_vector_env

pytest.importorskip("Box2D")
KWARGS = [{}, {"gravity": -5.0}, {"enable_wind": True, "wind_power": 10.0, "turbulence_power": 1.0}]


def test_the_tasks_are_gymnasiums_with_engines_swapped_in_half_of_them():
    suite = get_suite("LunarLander")
    assert suite.solved_return == 200.0
    vec = make_vector_env(suite, 6, "sync")
    references = [gym.make("LunarLander-v3", **kwargs) for kwargs in (*KWARGS, *KWARGS)]
    obs, _ = vec.reset(seed=2)
    np.testing.assert_array_equal(obs, [env.reset(seed=2 + k)[0] for k, env in enumerate(references)])
    swapped = {0: 0, 1: 3, 2: 2, 3: 1}
    for action in (1, 3, 2, 0, 1, 1, 3):
        obs, reward, *_ = vec.step(np.full(6, action))
        steps = [env.step(action if k < 3 else swapped[action]) for k, env in enumerate(references)]
        np.testing.assert_array_equal(obs, [step[0] for step in steps])
        np.testing.assert_array_equal(reward, [step[1] for step in steps])
    vec.close()


def test_mirrored_thrust_turns_the_side_engines_sign_alone():
    suite = get_suite({"name": "LunarLander", "continuous": True})
    assert (suite.name, suite.action_space.shape) == ("LunarLanderContinuous", (2,))
    mirrored = suite.make_task(3)
    plain = gym.make("LunarLander-v3", continuous=True)
    mirrored.reset(seed=1)
    plain.reset(seed=1)
    for _ in range(5):
        ours = mirrored.step(np.array([0.7, 0.9], np.float32))[0]
        np.testing.assert_array_equal(ours, plain.step(np.array([0.7, -0.9], np.float32))[0])
