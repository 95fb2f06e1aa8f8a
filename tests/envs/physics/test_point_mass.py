"""Point masses against their equations in matrix form, and their suites against the definition."""

import math

import gymnasium as gym
import numpy as np
import pytest

from varshare_pl.envs import get_suite, make_vector_env
from varshare_pl.errors import ConfigError

TURNS = {
    "PointMassDial": [0, 60, 120, 180, 240, 300],
    "PointMassClusters": [0, 0, 0, 180, 180, 180],
    "PointMassOutlier": [0, 0, 0, 0, 0, 180],
    "PointMassGoals": [0] * 6,
}


@pytest.mark.parametrize("angle", [1.0, 0.5])
@pytest.mark.parametrize("name", TURNS)
def test_every_step_follows_the_equations(name, angle):
    vec = make_vector_env({"name": name, "angle": angle}, 6, "batched", seed=3)
    rng = np.random.default_rng(0)
    obs, _ = vec.reset()
    position, velocity = obs[:, :2].astype(float), np.zeros((6, 2))
    assert np.abs(position).max() <= 1
    assert not obs[:, 2:].any()
    for step in range(1, 41):
        actions = rng.uniform(-1, 1, (6, 2)).astype(np.float32)
        obs, rewards, terminated, truncated, info = vec.step(actions)
        last = info["final_obs"] if step == 40 else obs
        told = info["final_info"]["success"] if step == 40 else info["success"]
        for m in range(6):
            turn = math.radians(TURNS[name][m] * angle)
            goal_at = math.radians(60 * m * angle) if name == "PointMassGoals" else 0.0
            goal = 0.7 * np.array([math.cos(goal_at), math.sin(goal_at)])
            rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
            velocity[m] = 0.85 * velocity[m] + 0.06 * rotation @ actions[m].astype(float)
            position[m] += velocity[m]
            distance = np.linalg.norm(position[m] - goal)
            assert rewards[m] == pytest.approx(
                -distance - 0.02 * float(np.sum(actions[m].astype(float) ** 2)), abs=1e-6
            )
            np.testing.assert_allclose(last[m], [*position[m], *(2 * velocity[m])], atol=1e-6)
            assert told[m] == (distance < 0.1)
        assert not terminated.any()
        assert truncated.all() == (step == 40)


def test_success_is_seen():
    """A mass that is pushed towards the goal comes near it, and the info says so."""
    vec = make_vector_env("PointMassOutlier", 6, "batched", seed=1)
    obs, _ = vec.reset()
    seen = np.zeros(6)
    for _ in range(40):
        away = np.array([0.7, 0.0]) - obs[:, :2] - 2.5 * obs[:, 2:]
        away[5] *= -1  # the outlier's controls are turned by half a circle
        obs, _, _, _, info = vec.step(np.clip(4 * away, -1, 1).astype(np.float32))
        seen = np.maximum(seen, info["success"])
    assert seen.all()


def test_the_dial_names_its_suite_and_has_its_bounds():
    assert get_suite("PointMassDial").name == "PointMassDial"
    suite = get_suite({"name": "PointMassDial", "angle": 0.25})
    assert suite.name == "PointMassDial-0.25"
    assert [task.name for task in suite.tasks][1] == "task 1 turned 15°"
    assert suite.identities() != get_suite("PointMassDial").identities()
    for angle in (-0.1, 1.5):
        with pytest.raises(ConfigError, match=r"suite.angle: .* is not allowed; a number from 0 to 1 is"):
            get_suite({"name": "PointMassDial", "angle": angle})


@pytest.mark.parametrize("num_tasks", [2, 3, 12])
def test_the_dial_has_as_many_tasks_as_asked_for(num_tasks):
    suite = get_suite({"name": "PointMassDial", "angle": 0.5, "num_tasks": num_tasks})
    assert suite.name == f"PointMassDial-0.5-{num_tasks}tasks"
    turns = np.exp(1j * np.pi * np.arange(num_tasks) / num_tasks)  # half of the way round
    np.testing.assert_allclose(suite.dynamics.table[0] + 1j * suite.dynamics.table[1], turns, atol=1e-12)
    again = gym.make(suite.tasks[-1].env_id, **suite.tasks[-1].kwargs).unwrapped
    np.testing.assert_array_equal(again.params, suite.dynamics.table[:, -1])


def test_a_dial_of_one_task_is_refused():
    with pytest.raises(ConfigError, match=r"suite.num_tasks: 1 is not allowed; an integer from 2 on is"):
        get_suite({"name": "PointMassDial", "num_tasks": 1})


def test_observations_stay_in_their_space():
    vec = make_vector_env("PointMassDial", 6, "batched", seed=1)
    vec.reset()
    outward = np.ones((6, 2), np.float32)
    for _ in range(80):
        obs, *_, info = vec.step(outward)
        for row in (*obs, *info.get("final_obs", ())):
            assert vec.single_observation_space.contains(row)


@pytest.mark.parametrize("name", ["PointMassDial", "MountainCarLadder"])
def test_controls_beyond_the_space_push_no_harder(name):
    inside, beyond = (make_vector_env(name, 6, "batched", seed=1) for _ in range(2))
    size = inside.single_action_space.shape[0]
    inside.reset()
    beyond.reset()
    moved = [vec.step(np.full((6, size), push, np.float32))[0] for vec, push in ((inside, 1.0), (beyond, 5.0))]
    np.testing.assert_array_equal(*moved)
