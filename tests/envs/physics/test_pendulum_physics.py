"""The physics against Gymnasium's own PendulumEnv, and the tasks against one another."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control.pendulum import PendulumEnv

from varshare_pl.envs import get_suite, make_vector_env

# Typed in from the definition of the suites, so that the table in the package is checked too: g, m, l, sign of torque.
PHYSICS = [(10.0, 1.0, 1.0), (9.0, 0.9, 1.05), (11.0, 1.1, 0.95)]
SIGNS = {False: [1.0] * 6, True: [1.0] * 3 + [-1.0] * 3}  # by mirrored


def family(mirrored):
    return {"name": "PendulumFamily", "mirrored": mirrored}


suites = pytest.mark.parametrize("mirrored", SIGNS)


def reference(task):
    """Gymnasium's env with its attributes set, and its time limit."""
    env = PendulumEnv()
    env.g, env.m, env.l = PHYSICS[task % 3]
    return gym.wrappers.TimeLimit(env, 200)


def torques(steps, envs, seed=0):
    """Some beyond the bounds, which are clipped."""
    return np.random.default_rng(seed).normal(0.0, 1.5, (steps, envs, 1)).astype(np.float32)


@suites
@pytest.mark.parametrize("backend", ["batched", "sync", "torch"])
def test_every_step_is_gymnasiums(mirrored, backend):
    """From the same state at every step, 1,200 of each task; its float64 actions, for it computes in their type."""
    steps = 1200 if backend == "batched" else 410
    vec, envs = make_vector_env(family(mirrored), 6, backend, seed=1), [reference(task) for task in range(6)]
    vec.reset()
    for env in envs:
        env.reset(seed=0)
    truncations = 0
    for actions in torques(steps, 6):
        if backend == "torch":
            states = np.stack([row.numpy().copy() for row in vec.env_state.physics], 1)
        else:
            states = [e.unwrapped.state for e in vec.envs] if backend == "sync" else np.stack(vec._state, 1)
        obs, rewards, terminated, truncated, info = vec.step(actions)
        assert not terminated.any()
        for i, env in enumerate(envs):
            env.unwrapped.state = np.array(states[i])
            torque = SIGNS[mirrored][i] * actions[i].astype(np.float64)
            expected, reward, _, over, _ = env.step(torque)
            assert truncated[i] == over
            np.testing.assert_allclose(rewards[i], reward, rtol=1e-14, atol=1e-15)
            found = info["final_obs"][i] if over else obs[i]
            np.testing.assert_allclose(found, expected, rtol=0, atol=2e-7)  # an ulp of float32
            if over:
                env.reset()
        truncations += truncated.sum()
    assert truncations == 6 * (steps // 200)


def test_an_episode_is_gymnasiums_with_its_float32_actions():
    ours, theirs = get_suite("PendulumFamily").make_task(0), gym.make("Pendulum-v1")
    np.testing.assert_array_equal(ours.reset(seed=5)[0], theirs.reset(seed=5)[0])
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    for actions in torques(200, 1):
        obs, reward, terminated, truncated, _ = ours.step(actions[0])
        expected = theirs.step(actions[0])
        np.testing.assert_allclose(obs, expected[0], rtol=0, atol=1e-3)
        assert reward == pytest.approx(expected[1], abs=1e-3)
        assert (terminated, truncated) == expected[2:4]
    assert truncated


@suites
def test_tasks_and_their_names(mirrored):
    found = get_suite(family(mirrored))
    names = ["baseline", "light and long", "heavy and short"]
    how = "mirrored" if mirrored else "again"
    assert [task.name for task in found.tasks] == names + [f"{name}, {how}" for name in names]
    assert len(set(found.identities())) == 6
    plain, turned = (get_suite(family(kind)).identities() for kind in SIGNS)
    assert plain[:3] == turned[:3]
    assert not set(plain[3:]) & set(turned[3:])


def test_a_mirrored_pendulum_is_the_same_under_the_other_torque():
    vec = make_vector_env(family(True), 6, "batched", seed=3)
    vec.reset()
    for row in vec._state:
        row[3:] = row[:3]
    for actions in torques(50, 6):
        actions[3:] = -actions[:3]
        obs, rewards, *_ = vec.step(actions)
        np.testing.assert_array_equal(obs[:3], obs[3:])
        np.testing.assert_array_equal(rewards[:3], rewards[3:])


def test_it_is_drawn():
    env = get_suite("PendulumFamily").make_task(1, render_mode="rgb_array")
    env.reset(seed=1)
    pictures = []
    for angle in (0.0, 1.5):
        env.unwrapped.state = (angle, 0.0)
        pictures.append(env.render())
    env.close()
    assert pictures[0].shape == (400, 600, 3)
    assert pictures[0][:190].min() < 255  # upright: the pole is above the middle
    assert (pictures[0][230:] == 255).all()
    assert (pictures[0] != pictures[1]).any()
