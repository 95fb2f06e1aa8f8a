"""The physics against Gymnasium's own CartPoleEnv, and the tasks against one another."""

import math

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from varshare_pl.envs import get_suite, make_vector_env

# Typed in from the definition of the suites, so that the table in the package is checked too:
# g, cart mass, pole mass, half length, |x| limit, |angle| limit in degrees.
BASE = (9.8, 1.0, 0.1, 0.5, 2.4, 12.0)
PHYSICS = {
    "CartPole": [BASE],
    "ComplexCartPole": [
        BASE,
        (9.8, 1.0, 0.05, 0.25, 2.4, 12.0),
        (9.8, 1.0, 0.2, 1.0, 2.4, 12.0),
        (6.0, 1.0, 0.1, 0.5, 2.4, 12.0),
        (9.8, 1.0, 0.1, 0.5, 1.5, 8.0),
    ],
    "IdenticalCartPole": [BASE] * 5,
    "MultiTaskCartPole": [
        BASE,
        (12.0, 1.0, 0.1, 0.5, 2.4, 12.0),
        (9.8, 2.0, 0.1, 0.5, 2.4, 12.0),
        (9.8, 1.0, 0.5, 0.5, 2.4, 12.0),
        (5.0, 1.0, 0.1, 0.5, 2.4, 12.0),
        (9.8, 1.0, 0.1, 1.0, 2.4, 12.0),
    ],
    "MirroredCartPole": [BASE, BASE],
}


def reference(physics):
    """Gymnasium's env with its attributes set, and its time limit of 500 steps."""
    env = CartPoleEnv()
    env.gravity, env.masscart, env.masspole, env.length, env.x_threshold, degrees = physics
    env.total_mass = env.masspole + env.masscart
    env.polemass_length = env.masspole * env.length
    env.theta_threshold_radians = degrees * 2 * math.pi / 360
    return gym.wrappers.TimeLimit(env, 500)


def balance(obs):
    return (obs[:, 0] * 0.05 + obs[:, 1] * 0.1 + obs[:, 2] + 0.5 * obs[:, 3] > 0).astype(np.int64)


@pytest.mark.parametrize("suite", PHYSICS)
@pytest.mark.parametrize("backend", ["batched", "sync"])
def test_every_step_is_gymnasiums(suite, backend):
    num_tasks = len(PHYSICS[suite])
    num_envs = 2 * num_tasks
    vec = make_vector_env(suite, num_envs, backend, seed=1)
    refs = [reference(PHYSICS[suite][i % num_tasks]) for i in range(num_envs)]
    rng = np.random.default_rng(0)
    obs, _ = vec.reset()
    for env in refs:
        env.reset(seed=0)
    ended = np.zeros(2, dtype=np.int64)  # terminations, truncations
    for _ in range(510):
        states = [env.unwrapped.state for env in vec.envs] if backend == "sync" else np.stack(vec._state, axis=1)
        # The first half balances, up to the time limit; the second half mostly falls.
        actions = balance(obs)
        if suite == "MirroredCartPole":
            actions[1::2] = 1 - actions[1::2]
        actions[num_tasks:] = rng.integers(0, 2, num_tasks)
        obs, rewards, terminated, truncated, info = vec.step(actions)
        for i, env in enumerate(refs):
            # From the same state at every step: the pole is unstable, so a last digit would grow over an episode.
            env.unwrapped.state = np.array(states[i], dtype=np.float64)
            action = 1 - actions[i] if suite == "MirroredCartPole" and i % 2 else actions[i]
            ref_obs, ref_reward, ref_terminated, ref_truncated, _ = env.step(action)
            done = ref_terminated or ref_truncated
            assert (rewards[i], terminated[i], truncated[i]) == (ref_reward, ref_terminated, ref_truncated)
            np.testing.assert_array_equal(info["final_obs"][i] if done else obs[i], ref_obs)
            if done:
                env.reset()
            else:
                state = vec.envs[i].unwrapped.state if backend == "sync" else [row[i] for row in vec._state]
                np.testing.assert_allclose(state, env.unwrapped.state, rtol=1e-14, atol=1e-16)
        ended += terminated.sum(), truncated.sum()
    assert (ended > 0).all()


@pytest.mark.parametrize("suite", ["ComplexCartPole", "MirroredCartPole"])
def test_episode_ends_just_beyond_each_limit(suite):
    for k, (*_, x_limit, degrees) in enumerate(PHYSICS[suite]):
        angle_limit = math.radians(degrees)
        for sign in (-1, 1):
            for inside in (0.01, 0.03):  # one step moves by 0.02
                cart = (sign * (x_limit - inside), sign * 1.0, 0.0, 0.0)
                pole = (0.0, 0.0, sign * (angle_limit - inside), sign * 1.0)
                env = get_suite(suite).make_task(k).unwrapped
                for state in (cart, pole):
                    env.reset(seed=0)
                    env.state = state
                    assert env.step(0)[2] == (inside < 0.02)


def test_first_states_are_gymnasiums():
    ours, theirs = get_suite("CartPole").make_task(0), gym.make("CartPole-v1")
    np.testing.assert_array_equal(ours.reset(seed=5)[0], theirs.reset(seed=5)[0])


def test_last_observations_lie_in_the_box():
    suite = get_suite("ComplexCartPole")
    high = suite.observation_space.high
    np.testing.assert_allclose(high[[0, 2]], [4.8, 2 * math.radians(12)], rtol=1e-6)
    vec = make_vector_env(suite, 20)
    vec.reset()
    for t in range(300):
        *_, info = vec.step(np.full(20, t // 150))
        for last in info.get("final_obs", ()):
            assert suite.observation_space.contains(last)


def test_mirrored_task_swaps_the_actions():
    suite = get_suite("MirroredCartPole")
    plain, swapped = suite.make_task(0), suite.make_task(1)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(plain.reset(seed=2)[0], swapped.reset(seed=2)[0])
    lengths = 0
    for _ in range(200):
        action = int(rng.integers(2))
        left, right = plain.step(action), swapped.step(1 - action)
        np.testing.assert_array_equal(left[0], right[0])
        assert left[1:4] == right[1:4]
        lengths += 1
        if left[2]:
            np.testing.assert_array_equal(plain.reset()[0], swapped.reset()[0])
    assert lengths == 200


def test_bandit_pays_only_the_action_of_its_task():
    for backend in ("batched", "torch", "sync"):
        vec = make_vector_env("ConflictBandit", 25, backend)
        obs, info = vec.reset()
        np.testing.assert_array_equal(obs, np.ones((25, 1), dtype=np.float32))
        actions = np.arange(25) // 5
        _, rewards, terminated, truncated, _ = vec.step(actions)
        np.testing.assert_array_equal(rewards, (actions == info["task"]).astype(float))
        assert rewards.sum() == 5
        assert terminated.all()
        assert not truncated.any()
