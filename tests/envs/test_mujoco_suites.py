"""Families of MuJoCo envs: Gymnasium's own bodies, with just the change that a task names."""

import gymnasium as gym
import numpy as np
import pytest

from varshare_pl.envs import get_suite, make_vector_env
from varshare_pl.envs.mujoco import mujoco_cheetah_family, mujoco_hopper_family
from varshare_pl.errors import ConfigError

BODIES = [("varshare_pl/HalfCheetahVariant-v5", "HalfCheetah-v5"), ("varshare_pl/HopperVariant-v5", "Hopper-v5")]


def rows(env, seed=1, steps=40):
    obs, _ = env.reset(seed=seed)
    rng, out = np.random.default_rng(seed), [[*obs, 0.0]]
    for _ in range(steps):
        obs, reward, terminated, _, info = env.step(rng.uniform(-1, 1, env.action_space.shape).astype(np.float32))
        out.append([*obs, reward])
        if terminated:
            break
    return np.array(out), info


@pytest.mark.parametrize(("variant", "base"), BODIES)
def test_without_a_change_it_is_gymnasiums(variant: str, base: str) -> None:
    np.testing.assert_array_equal(rows(gym.make(variant))[0], rows(gym.make(base))[0])


@pytest.mark.parametrize(("variant", "base"), BODIES)
def test_a_change_is_that_of_the_model(variant: str, base: str) -> None:
    """Beside it: Gymnasium's env whose model is changed by hand, where no derived constant counts."""
    plain = gym.make(base)
    before = rows(plain)[0]
    for kwargs, change in (
        ({"gravity": 0.7}, lambda model: model.opt.gravity.__imul__(0.7)),
        ({"friction": 0.6}, lambda model: model.geom_friction[:, 0].__imul__(0.6)),
    ):
        by_hand = gym.make(base)
        change(by_hand.unwrapped.model)
        changed = rows(gym.make(variant, **kwargs))[0]
        np.testing.assert_array_equal(changed, rows(by_hand)[0])
        if "gravity" in kwargs:
            assert not np.array_equal(changed, before[: len(changed)])


def test_a_heavy_body_is_one_of_another_density() -> None:
    import mujoco

    model = gym.make(BODIES[0][0], mass=1.3).unwrapped.model
    plain = gym.make(BODIES[0][1]).unwrapped.model
    spec = mujoco.MjSpec.from_file(gym.make(BODIES[0][1]).unwrapped.fullpath)
    spec.compiler.settotalmass = 1.3 * float(plain.body_mass.sum())  # MuJoCo's own way to scale masses and inertias
    theirs = spec.compile()
    for name in ("body_mass", "body_inertia", "body_subtreemass", "dof_invweight0"):
        np.testing.assert_allclose(getattr(model, name), getattr(theirs, name), rtol=1e-6)


def test_backwards_is_rewarded_for_running_backwards() -> None:
    env = gym.make(BODIES[0][0], direction=-1)
    table, info = rows(env)
    forwards, theirs = rows(gym.make(BODIES[0][1]))
    np.testing.assert_array_equal(table[:, :-1], forwards[:, :-1])
    assert table[-1, -1] == pytest.approx(-info["x_velocity"] + info["reward_ctrl"])
    assert theirs["x_velocity"] == info["x_velocity"]


def test_the_families() -> None:
    cheetah, hopper = get_suite("CheetahFamily"), get_suite("HopperFamily")
    assert (cheetah.num_tasks, hopper.num_tasks, mujoco_cheetah_family(directions=False).num_tasks) == (6, 4, 4)
    assert mujoco_cheetah_family(directions=False, horizon=200).name == "CheetahFamilyForwards_200_steps"
    assert "HalfCheetah-v5" in cheetah.protocol
    for suite in (cheetah, hopper):
        assert len(set(suite.identities())) == suite.num_tasks
        vec = make_vector_env(suite, suite.num_tasks, seed=1)
        obs, info = vec.reset()
        assert obs.shape[1:] == suite.observation_space.shape
        assert vec.single_action_space == suite.action_space
        assert info["task"].tolist() == list(range(suite.num_tasks))
        vec.close()


BAD = [
    (lambda: get_suite({"name": "CheetahFamily", "directions": 2}), "suite.directions=2: allowed: true, false"),
    (lambda: mujoco_hopper_family(horizon=0), "suite.horizon: 0 is not allowed; an integer of at least 1 is"),
    (lambda: gym.make(BODIES[0][0], direction=2), "kwargs.direction: 2 is not allowed; 1 and -1 are"),
    (lambda: gym.make(BODIES[0][0], gravity=0), "kwargs.gravity: 0 is not allowed; a factor above 0 is"),
    (lambda: gym.make(BODIES[1][0], mass="x"), "kwargs.mass: 'x' is not allowed; a factor above 0 is"),
    (lambda: gym.make(BODIES[1][0], friction=float("nan")), "kwargs.friction: nan is not allowed; a factor above 0 is"),
]


@pytest.mark.parametrize(("make", "line"), BAD)
def test_a_bad_value_is_one_line(make, line: str) -> None:
    with pytest.raises(ConfigError) as error:
        make()
    assert str(error.value) == line
