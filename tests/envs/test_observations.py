"""Observation spaces of every kind reach a vector env as one Box, as Gymnasium's own flatten has them."""

import re

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from varshare_pl.envs import get_suite, make_vector_env
from varshare_pl.envs.observations import common_box
from varshare_pl.errors import EnvError

BYTES = spaces.Box(0, 255, (5, 6, 3), np.uint8)
KINDS = [
    (BYTES, np.uint8, (5, 6, 3)),
    (spaces.Box(-3, 9, (4,), np.int8), np.float32, (4,)),
    (spaces.Box(-(2**24), 2**24, (4,), np.int64), np.float32, (4,)),
    (spaces.Box(0, 2**24 + 1, (4,), np.int64), np.float64, (4,)),
    (spaces.Box(-1, 1, (2, 3), np.float16), np.float32, (2, 3)),
    (spaces.Box(-1, 1, (2, 3), np.float64), np.float64, (2, 3)),
    (spaces.Box(-1, 1, (), np.float32), np.float32, (1,)),
    (spaces.Discrete(5), np.float32, (5,)),
    (spaces.Discrete(5, start=-2), np.float32, (5,)),
    (spaces.MultiDiscrete([3, 2]), np.float32, (5,)),
    (spaces.MultiBinary(4), np.float32, (4,)),
    (spaces.Tuple((spaces.Discrete(2), spaces.Box(-1, 1, (2, 2), np.float32))), np.float64, (6,)),
    (spaces.Dict({"a": spaces.Box(0, 1, (3,), np.float64), "b": spaces.Discrete(3)}), np.float64, (6,)),
    (spaces.Dict({"b": BYTES, "a": spaces.Tuple((spaces.Discrete(3),))}), np.float32, (93,)),
]


class Samples(gym.Env):
    """Observes samples of a space, and keeps them."""

    action_space = spaces.Discrete(2)

    def __init__(self, space, spoil=None):
        self.observation_space, self.spoil, self.seen = space, spoil, []

    def _next(self):
        self.seen.append(self.observation_space.sample())
        return self.seen[-1] if self.spoil is None else self.spoil

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._next(), {}

    def step(self, action):
        return self._next(), 0.0, False, False, {}


@pytest.fixture(autouse=True)
def _registered():
    gym.register("Samples-v0", Samples, max_episode_steps=5, disable_env_checker=True)
    yield
    del gym.registry["Samples-v0"]


def task(space, **more):
    return {"id": "Samples-v0", "kwargs": {"space": space, **more}}


@pytest.mark.parametrize(("space", "dtype", "shape"), KINDS)
def test_what_is_observed_is_what_gymnasium_flattens(space, dtype, shape):
    suite = get_suite([task(space)])
    if isinstance(space, spaces.Tuple):  # of float32 and int64 Gymnasium makes float64, whose numbers float32 holds
        dtype = suite.observation_space.dtype
        assert dtype in (np.float32, np.float64)
    assert suite.observation_space.shape == suite.env_spec().obs_shape == shape
    assert suite.observation_space.dtype == dtype
    vec = make_vector_env(suite, 2, "sync", seed=1)
    obs = [vec.reset()[0], *(vec.step(np.array([0, 1]))[0] for _ in range(3))]
    assert obs[0].dtype == dtype
    for i, env in enumerate(vec.envs):
        seen = env.unwrapped.seen
        for t, observation in enumerate(seen):
            expected = spaces.flatten(space, observation)
            np.testing.assert_array_equal(obs[t][i].ravel(), expected.astype(np.float64).astype(dtype))
            assert suite.observation_space.contains(obs[t][i])
    vec.close()


def test_the_scale_of_bytes_is_that_of_their_space():
    assert get_suite([task(BYTES)]).env_spec().obs_scale == 1 / 255
    assert get_suite([task(spaces.Box(0, 10, (7, 7, 3), np.uint8))]).env_spec().obs_scale == 0.1
    assert get_suite([task(spaces.Box(0, 9, (2,), np.int16))]).env_spec().obs_scale == 1.0


def test_bytes_beside_other_numbers_are_numbers():
    box = common_box([spaces.Box(0, 255, (2,), np.uint8), spaces.Box(-1, 1, (2,), np.float32)])
    assert box == spaces.Box(np.float32([-1, -1]), np.float32([255, 255]))


@pytest.mark.parametrize("spoil", [np.full((5, 6, 3), 256), np.full((5, 6, 3), 0.5), np.full((5, 6, 3), -1), "x"])
def test_what_bytes_do_not_hold_is_one_line(spoil):
    vec = make_vector_env([task(BYTES, spoil=spoil) | {"name": "bytes"}], 1, "sync")
    with pytest.raises(EnvError, match=re.escape("env 0 (task 0, bytes) at step 0")) as error:
        vec.reset()
    assert "integers in uint8 of shape (5, 6, 3) is allowed" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_bounds_of_padded_vectors_hold_the_zeros():
    box = common_box([spaces.Box(1, 2, (2,), np.float32), spaces.Box(3, 4, (3,), np.float32)], pad=True)
    np.testing.assert_array_equal(box.low, [1, 1, 0])
    np.testing.assert_array_equal(box.high, [4, 4, 4])
