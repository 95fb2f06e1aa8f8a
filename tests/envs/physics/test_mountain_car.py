"""The mountain cars against Gymnasium's own env, and the ladder against its definition."""

import gymnasium as gym
import numpy as np
import pytest

from varshare_pl.envs import get_suite, make_vector_env

PLAIN = [0.004, 0.0025, 0.0018, 0.0014, 0.0011, 0.0009]
MIRRORED = [0.004, 0.0018, 0.0011, -0.004, -0.0018, -0.0011]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("backend", ["batched", "sync"])
def test_every_step_is_gymnasiums(mirrored, backend):
    powers = MIRRORED if mirrored else PLAIN
    vec = make_vector_env({"name": "MountainCarLadder", "mirrored": mirrored}, 6, backend, seed=1)
    reference = gym.make("MountainCarContinuous-v0").unwrapped
    rng = np.random.default_rng(0)
    obs, _ = vec.reset()
    ends = at_wall = 0
    for _ in range(1300):
        swing = np.where(obs[:, 1] >= 0, 1.0, -1.0) * np.sign(powers)  # pumps energy: reaches goal and wall
        actions = np.where(rng.random(6) < 0.2, rng.uniform(-1, 1, 6), swing)[:, None].astype(np.float32)
        before = np.stack([[o[0] * 0.5 - 0.5, o[1] * 0.03] for o in obs])
        states = np.stack(vec._state, 1) if backend == "batched" else [env.unwrapped.state for env in vec.envs]
        np.testing.assert_allclose(states, before, atol=1e-6)
        obs, rewards, terminated, truncated, info = vec.step(actions)
        for i, power in enumerate(powers):
            reference.power, reference.state = power, np.array(states[i])  # from the same state at every step
            expected, reward, ended, *_ = reference.step(actions[i].astype(np.float64))
            at_wall += expected[0] == -1.2
            done = ended or truncated[i]
            seen = info["final_obs"][i] if done else obs[i]
            np.testing.assert_allclose([seen[0] * 0.5 - 0.5, seen[1] * 0.03], expected, atol=2e-7)
            assert rewards[i] == pytest.approx(reward, abs=1e-9)
            assert terminated[i] == ended
            told = info["final_info"]["success"][i] if done else info["success"][i]
            assert told == ended
            ends += ended
    assert ends >= 6
    assert at_wall > 0


def test_the_ladder():
    plain, mirrored = get_suite("MountainCarLadder"), get_suite({"name": "MountainCarLadder", "mirrored": True})
    assert plain.dynamics.table.tolist() == [PLAIN]
    assert mirrored.dynamics.table.tolist() == [MIRRORED]
    assert (plain.name, mirrored.name) == ("MountainCarLadder", "MountainCarLadder-mirrored")
    assert mirrored.tasks[3].name == "engine 0.004, reversed"
    vec = make_vector_env("MountainCarLadder", 6, "batched", seed=1)
    vec.reset()
    for step in range(1, 301):
        *_, truncated, _ = vec.step(np.zeros((6, 1), np.float32))
        assert truncated.all() == (step == 300)
