"""The torch backend: the trajectories of the others, from one pure function that can be traced."""

import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from helpers import random_actions as any_actions
from torch.fx.experimental.proxy_tensor import make_fx

from varshare_pl.envs import PHYSICS_SUITES, final_observations, get_state, get_suite, make_vector_env, set_state
from varshare_pl.envs.seeding import get_stream_state, new_stream, stream_seed
from varshare_pl.envs.torch_backend import EnvState, TorchVectorEnv, transition

# An ulp of difference in a sine grows in an unstable system; a step apart, states still agree to more digits than this.
CLOSE = {"rtol": 0, "atol": 1e-9}
CLOSE_FLOAT32 = {"rtol": 1e-6, "atol": 1e-8}


def pair(suite, num_envs, assignment="auto", others="batched"):
    made = [make_vector_env(suite, num_envs, b, seed=7, task_assignment=assignment) for b in (others, "torch")]
    for vec in made:
        vec.reset()
    return made


def random_actions(vec, steps, seed=0):
    return any_actions(vec.single_action_space, steps, vec.num_envs, seed)


def record(vec, actions):
    """All that steps return, and the physics, over time."""
    rows = []
    for action in actions:
        obs, reward, terminated, truncated, info = vec.step(action)
        final, mask = final_observations(info, obs)
        final_task = info["final_info"]["task"] if mask.any() else np.zeros_like(info["task"])
        physics = vec.env_state.physics if isinstance(vec, TorchVectorEnv) else vec._state
        names = ("obs", "reward", "terminated", "truncated", "task", "final", "mask", "final_task", "physics")
        values = (obs, reward, terminated, truncated, info["task"], final, mask, final_task, np.array(physics))
        rows.append(dict(zip(names, values, strict=True)))
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def assert_same_step(left, right):
    """What two steps returned: observations close, the rest equal."""
    for a, b in zip(left[:4], right[:4], strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, **CLOSE_FLOAT32)
    assert left[4].keys() == right[4].keys()
    for key in ("task", "_task", "_final_obs", "_final_info"):
        np.testing.assert_array_equal(left[4].get(key), right[4].get(key))
    np.testing.assert_equal(left[4].get("final_info"), right[4].get("final_info"))
    (a, mask), (b, _) = (final_observations(step[4], step[0]) for step in (left, right))
    np.testing.assert_allclose(a, b, **CLOSE_FLOAT32)
    assert not b[~mask].any()


def assert_same_state(left, right):
    """Saved states: physics close, the rest equal."""
    for a, b in zip(left["envs"], right["envs"], strict=True):
        np.testing.assert_allclose(a["env"]["state"], b["env"]["state"], **CLOSE)
        np.testing.assert_allclose(a["obs"], b["obs"], **CLOSE_FLOAT32)
        assert (a["task"], a["rng"], a["env"]["rng"]) == (b["task"], b["rng"], b["env"]["rng"])
        assert (a["steps"] or 0) == (b["steps"] or 0)  # Gymnasium's wrappers count none without a time limit


@pytest.mark.parametrize(
    ("suite", "assignment"),
    [*((suite, "fixed") for suite in PHYSICS_SUITES)]
    + [(suite, "cycle") for suite in ("ComplexCartPole", "ConflictBandit", "PendulumFamily", "PointMassGoals")],
)
def test_trajectories_are_those_of_the_batched_env(suite, assignment):
    num_envs = 2 * get_suite(suite).num_tasks + (assignment == "cycle")
    batched, vec = pair(suite, num_envs, assignment)
    assert isinstance(vec, TorchVectorEnv)
    ends = 0
    for part in np.split(random_actions(vec, 1000), 4):
        left, right = record(batched, part), record(vec, part)
        for name, value in left.items():
            assert (value.dtype, value.shape) == (right[name].dtype, right[name].shape), name
            np.testing.assert_allclose(value, right[name], **CLOSE_FLOAT32, err_msg=name)
        np.testing.assert_allclose(left["physics"], right["physics"], **CLOSE)
        assert_same_state(get_state(batched), get_state(vec))
        ends += left["mask"].sum()
    assert ends >= 1000 // (get_suite(suite).dynamics.max_episode_steps or 125) * num_envs


def test_long_episodes_from_the_same_state_at_every_step():
    batched, vec = pair("ComplexCartPole", 5)
    obs = batched.reset(seed=0)[0]
    vec.reset(seed=0)
    ended = np.zeros(2, dtype=np.int64)
    for _ in range(600):
        state = vec.env_state
        vec.env_state = state._replace(physics=tuple(torch.tensor(row) for row in batched._state))
        action = (obs[:, 0] * 0.05 + obs[:, 1] * 0.1 + obs[:, 2] + 0.5 * obs[:, 3] > 0).astype(np.int64)
        action[4] = 0
        left = batched.step(action)
        assert_same_step(left, vec.step(action))
        obs = left[0]
        ended += left[2].sum(), left[3].sum()
    assert (ended > 0).all()


@pytest.mark.parametrize("assignment", ["fixed", "cycle"])
@pytest.mark.parametrize("suite", ["ComplexCartPole", "ConflictBandit", "PendulumFamily"])
@pytest.mark.parametrize("other", ["batched", "sync"])
def test_states_pass_to_and_from_other_backends(suite, assignment, other):
    left, vec = pair(suite, get_suite(suite).num_tasks, assignment, other)
    for action in random_actions(vec, 90):
        left.step(action)
    obs, task = set_state(vec, json.loads(json.dumps(get_state(left))))
    assert (obs.dtype, task.dtype) == (np.float32, np.int64)
    assert_same_state(get_state(left), get_state(vec))
    for action in random_actions(vec, 120, seed=1):
        assert_same_step(left.step(action), vec.step(action))
    assert_same_state(get_state(left), get_state(vec))
    set_state(left, json.loads(json.dumps(get_state(vec))))
    for action in random_actions(vec, 60, seed=2):
        assert_same_step(left.step(action), vec.step(action))
    assert_same_state(get_state(left), get_state(vec))


@pytest.mark.parametrize("suite", ["ComplexCartPole", "ConflictBandit"])
@pytest.mark.parametrize("assignment", ["fixed", "cycle"])
def test_chunks_of_transitions_are_steps(suite, assignment):
    """Outside of ``step``, more of them than the pool held at first; saved states and resets in between."""
    stepped, vec = (make_vector_env(suite, 5, "torch", seed=7, task_assignment=assignment) for _ in range(2))
    stepped.reset()
    vec.reset()
    for k, steps in enumerate((100, 3, 150, 40)):
        actions = random_actions(vec, steps, seed=k)
        vec.refill(steps)
        state = vec.env_state
        assert (state.fresh.shape[0] - state.used >= steps).all()
        for action in actions:
            obs, reward, terminated, truncated, info = stepped.step(action)
            state, result = vec.transition(state, torch.from_numpy(action))
            for found, expected in (
                (result.obs, obs),
                (result.reward, reward),
                (result.terminated, terminated),
                (result.truncated, truncated),
                (result.task, info["task"]),
                (result.final_obs, info.get("final_obs", np.zeros_like(obs))),
                (result.ended_task, info.get("final_info", {"task": np.zeros(5, dtype=np.int64)})["task"]),
            ):
                np.testing.assert_array_equal(found, expected)
                assert found.numpy().dtype == expected.dtype
        vec.env_state = state
        assert get_state(vec) == get_state(stepped)
        action = random_actions(vec, 1, seed=9)[0]
        np.testing.assert_array_equal(vec.step(action)[0], stepped.step(action)[0])
        if k == 1:
            np.testing.assert_array_equal(vec.reset()[0], stepped.reset()[0])
    assert get_state(vec) == get_state(stepped)


def test_a_chunk_may_use_up_the_pool():
    """Every env ends at every step; what follows are the stream's draws one after another, and none is skipped."""
    vec = make_vector_env("CartPole", 2, "torch", seed=5)
    dynamics, streams = vec.dynamics, [new_stream(stream_seed(5, i)) for i in range(2)]
    obs = [vec.reset()[0]]

    def out(state):
        return state._replace(physics=(state.physics[0] + 9.0, *state.physics[1:]))

    for steps in (64, 20, 64, 100):
        vec.refill(steps)
        state = vec.env_state
        for _ in range(steps):
            state, result = vec.transition(out(state), torch.tensor([0, 1]))
            assert result.terminated.all()
            obs.append(result.obs.numpy())
        vec.env_state = state
        for _ in range(40):
            vec.env_state = out(vec.env_state)
            obs.append(vec.step(np.array([0, 1]))[0])
    expected = [[dynamics.initial_state(rng) for rng in streams] for _ in obs]
    np.testing.assert_array_equal(obs, np.array(expected, dtype=np.float32))
    assert [env["rng"] for env in get_state(vec)["envs"]] == [get_stream_state(rng) for rng in streams]


@pytest.mark.parametrize("suite", ["CartPole", "ConflictBandit"])
def test_saved_streams_hold_the_used_draws_only(suite):
    vec = make_vector_env(suite, 3, "torch", seed=1)
    vec.reset()
    start = make_vector_env(suite, 3, "batched", seed=1)
    start.reset()
    streams = [rng["rng"] for rng in get_state(start)["envs"]]
    resets = np.zeros(3, dtype=np.int64)
    for action in random_actions(vec, 200):
        _, _, terminated, truncated, _ = vec.step(action)
        resets += terminated | truncated
    vec.refill(300)
    assert (resets > 4).all()
    dynamics = get_suite(suite).dynamics
    for env, stream, count in zip(get_state(vec)["envs"], streams, resets, strict=True):
        rng = np.random.Generator(np.random.PCG64())
        rng.bit_generator.state = stream
        for _ in range(count):
            dynamics.initial_state(rng)
        assert env["rng"]["state"] == rng.bit_generator.state["state"]


@pytest.mark.parametrize(("suite", "assignment"), [("ComplexCartPole", "cycle"), ("ConflictBandit", "fixed")])
def test_transitions_are_one_graph(suite, assignment):
    """Traced where nothing ends, the graph is right where episodes end: no control flow depends on the data."""
    vec = make_vector_env(suite, 5, "torch", seed=2, task_assignment=assignment)
    vec.reset()
    vec.refill(40)

    def chunk(table, state, actions):
        results = []
        for action in actions.unbind():
            state, result = transition(vec.dynamics, table, state, action, cycle=vec.cycle)
            results.append(result)
        return state, results

    table = torch.from_numpy(vec.dynamics.table)
    actions = torch.from_numpy(random_actions(vec, 40))
    graph = make_fx(chunk, tracing_mode="fake")(table, vec.env_state, actions[:10])
    state, ends = vec.env_state, 0
    for part in actions.split(10):
        expected_state, expected = chunk(table, state, part)
        found_state, found = graph(table, state, part)
        for left, right in zip(expected, found, strict=True):
            for a, b in zip(left, right, strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=0)
            ends += int((left.terminated | left.truncated).sum())
        for a, b in zip(expected_state.physics, found_state.physics, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
        for a, b in zip(expected_state[1:], found_state[1:], strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
        state = expected_state
    assert ends > 5


def test_a_transition_changes_nothing_in_place():
    vec = make_vector_env("ComplexCartPole", 5, "torch", task_assignment="cycle")
    vec.reset()
    vec.refill(100)
    state = vec.env_state
    flat = [*state.physics, *state[1:]]
    kept = [tensor.clone() for tensor in flat]
    for action in random_actions(vec, 100):
        state, _ = vec.transition(state, torch.from_numpy(action))
    assert all(torch.equal(a, b) for a, b in zip(flat, kept, strict=True))


@pytest.mark.parametrize(("suite", "assignment"), [("ComplexCartPole", "cycle"), ("ConflictBandit", "fixed")])
def test_all_tensors_are_on_the_device(suite, assignment):
    """The meta device has no values: a tensor made elsewhere, or a look at a value, would raise."""
    dynamics = get_suite(suite).dynamics
    vec = TorchVectorEnv(dynamics, [0, 1, 2], cycle=assignment == "cycle", device="meta")
    vec.reset()
    state, result = vec.transition(vec.env_state, torch.zeros(3, dtype=torch.int64, device="meta"))
    assert isinstance(state, EnvState)
    tensors = [*state.physics, *state[1:], *result]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert result.obs.shape == result.final_obs.shape == (3, *dynamics.observation_space.shape)
    assert result.obs.dtype == torch.float32
    assert result.reward.dtype == torch.float64


def test_no_env_state_before_the_first_reset():
    with pytest.raises(gym.error.ResetNeeded):
        _ = make_vector_env("CartPole", 1, "torch").env_state
