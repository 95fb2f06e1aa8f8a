"""First states drawn ahead are those of the streams, and saved streams do not tell that they were."""

import json

import numpy as np
import pytest

from varshare_pl.envs import get_suite
from varshare_pl.envs.physics.pool import ResetPool
from varshare_pl.envs.seeding import get_stream_state, restore_stream

SUITES = ["ComplexCartPole", "ConflictBandit"]


def streams(count=4):
    return [np.random.default_rng(seed) for seed in range(count)]


@pytest.mark.parametrize("suite", SUITES)
def test_many_draws_are_single_draws(suite):
    dynamics = get_suite(suite).dynamics
    many, single = np.random.default_rng(3), np.random.default_rng(3)
    for count in (5, 1, 0, 70):
        expected = [dynamics.initial_state(single) for _ in range(count)]
        states = dynamics.initial_states(many, count)
        assert states.shape == (count, dynamics.state_size)
        np.testing.assert_array_equal(states, np.reshape(expected, states.shape))
        assert get_stream_state(many) == get_stream_state(single)


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("size", [1, 3, 64])
def test_taken_states_are_the_streams_in_order(suite, size):
    dynamics = get_suite(suite).dynamics
    pool, singles = ResetPool(dynamics, streams(), size), streams()
    rng = np.random.default_rng(0)
    for t in range(200):
        ids = np.flatnonzero(rng.random(4) < [0.0, 0.1, 0.5, 1.0])
        states, rows = pool.take(ids)
        expected = [dynamics.initial_state(singles[i]) for i in ids]
        assert states.shape == (dynamics.state_size, len(ids))
        np.testing.assert_array_equal(states.T, np.reshape(expected, states.T.shape))
        obs = np.array([dynamics.observe(tuple(state)) for state in expected], dtype=np.float32)
        np.testing.assert_array_equal(rows.view(np.float32), obs.reshape(-1))
        if t % 7 == 0:
            assert pool.stream_states() == [get_stream_state(single) for single in singles]
        if t % 23 == 0:
            pool.refill(int(rng.integers(1, 6)))  # more than a small pool holds
        if t == 100:
            singles[2] = np.random.default_rng(9)
            pool.replace(2, np.random.default_rng(9))


def test_refill_leaves_the_next_states_alone():
    dynamics = get_suite("CartPole").dynamics
    pool, singles = ResetPool(dynamics, streams(), 8), streams()
    pool.used = np.array([0, 3, 5, 8])
    expected = [
        [dynamics.initial_state(rng) for _ in range(60)][used:] for rng, used in zip(singles, pool.used, strict=True)
    ]
    for least, drawn, size in ((0, False, 8), (3, True, 8), (3, False, 8), (20, True, 40), (20, False, 40)):
        assert pool.refill(least) == drawn
        assert pool.size == size
        assert (pool.size - pool.used >= least).all()
        for i, used in enumerate(pool.used):
            np.testing.assert_array_equal(pool.fresh[:, used:, i].T, np.reshape(expected[i][: size - used], (-1, 4)))


def test_saved_streams_go_on_with_the_next_state():
    dynamics = get_suite("CartPole").dynamics
    pool = ResetPool(dynamics, streams())
    for ids in ([0, 1], [1], [1, 3]):
        pool.take(np.array(ids))
    states = json.loads(json.dumps(pool.stream_states()))
    resumed = ResetPool(dynamics, [restore_stream(state) for state in states])
    for _ in range(3):
        np.testing.assert_array_equal(pool.take(np.arange(4))[0], resumed.take(np.arange(4))[0])
