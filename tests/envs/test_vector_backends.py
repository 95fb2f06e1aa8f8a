"""What all backends must share: trajectories, labels, streams, autoreset."""

import itertools

import numpy as np
import pytest

from varshare_pl.envs import final_observations, get_state, get_suite, make_vector_env

CASES = [
    ("ComplexCartPole", 10, "fixed"),
    ("ComplexCartPole", 3, "cycle"),
    ("MirroredCartPole", 4, "cycle"),
    ("ConflictBandit", 5, "fixed"),
    ("ConflictBandit", 4, "cycle"),
]


def play(vec, steps, seed=0, actions=None):
    """Step with random actions; return everything that came back, one row a step."""
    rng = np.random.default_rng(seed)
    obs, info = vec.reset()
    rows = [(obs, info["task"])]
    for t in range(steps):
        action = rng.integers(0, vec.single_action_space.n, vec.num_envs) if actions is None else actions[t]
        obs, rewards, terminated, truncated, info = vec.step(action)
        final, mask = final_observations(info, obs)
        np.testing.assert_array_equal(mask, terminated | truncated)
        final_task = info["final_info"]["task"] if mask.any() else np.zeros(vec.num_envs, dtype=np.int64)
        rows.append((obs, info["task"], rewards, terminated, truncated, final, final_task))
    return rows


@pytest.mark.parametrize(("suite", "num_envs", "assignment"), CASES)
@pytest.mark.parametrize("backend", ["sync", "workers"])
def test_backends_give_the_same_trajectories(suite, num_envs, assignment, backend):
    vecs = [make_vector_env(suite, num_envs, b, seed=7, task_assignment=assignment) for b in ("batched", backend)]
    batched, other = (play(vec, 200) for vec in vecs)
    vecs[1].close()
    assert sum(row[3].sum() for row in batched[1:]) > 5 * num_envs  # many episodes ended
    for left, right in zip(batched, other, strict=True):
        for a, b in zip(left, right, strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype


@pytest.mark.parametrize("backend", ["batched", "torch", "sync"])
def test_time_limit_is_the_same(backend):
    # Balanced for more than one whole episode: 500 steps, then the next one starts at 0.
    vec = make_vector_env("CartPole", 2, backend)
    obs, _ = vec.reset()
    ends = []
    for t in range(1, 1003):
        obs, _, terminated, truncated, _ = vec.step(
            (obs[:, 0] * 0.05 + obs[:, 1] * 0.1 + obs[:, 2] + 0.5 * obs[:, 3] > 0).astype(np.int64)
        )
        assert not terminated.any()
        if truncated.any():
            ends.append(t)
    assert ends == [500, 1000]


@pytest.mark.parametrize("backend", ["batched", "torch", "sync"])
def test_no_ghost_steps_and_physics_fits_the_label(backend):
    """Every transition, replayed in a single env of the task it is labelled with, gives the same outcome."""
    suite = get_suite("ComplexCartPole")
    vec = make_vector_env(suite, 3, backend, task_assignment="cycle")
    singles = [suite.make_task(k) for k in range(suite.num_tasks)]
    for env in singles:
        env.reset(seed=0)
    rng = np.random.default_rng(3)
    _, info = vec.reset()
    task = info["task"]
    length, lengths = np.zeros(3, dtype=np.int64), []
    seen = set()
    for _ in range(300):
        states = [tuple(env["env"]["state"]) for env in get_state(vec)["envs"]]
        action = rng.integers(0, 2, 3)
        next_obs, _, terminated, _, info = vec.step(action)
        final, mask = final_observations(info, next_obs)
        for i in range(3):
            single = singles[task[i]].unwrapped
            single.state = states[i]
            replayed, _, fell, _, _ = single.step(int(action[i]))
            # Torch's sine and cosine may differ from NumPy's in the last digit.
            np.testing.assert_allclose(
                final[i] if mask[i] else next_obs[i], replayed, rtol=0, atol=1e-6 if backend == "torch" else 0
            )
            assert fell == terminated[i]
            length[i] += 1
            if mask[i]:
                assert info["final_info"]["task"][i] == task[i]
                assert info["task"][i] == (task[i] + 1) % suite.num_tasks
                assert (np.abs(next_obs[i]) <= 0.05).all()  # the first observation of an episode
                lengths.append(length[i])
                length[i] = 0
                seen.add(int(task[i]))
            else:
                assert info["task"][i] == task[i]
        task = info["task"]
    assert seen == set(range(5))
    assert min(lengths) >= 7  # a pole needs some steps to fall; a ghost step would make episodes of 1
    assert sum(lengths) + length.sum() == 900


def arrays(returned):
    """All arrays in what ``reset`` or ``step`` returned."""
    if isinstance(returned, np.ndarray):
        return [returned]
    values = returned.values() if isinstance(returned, dict) else returned
    return [array for value in values for array in arrays(value)]


@pytest.mark.parametrize("backend", ["batched", "torch"])
@pytest.mark.parametrize("assignment", ["fixed", "cycle"])
def test_returned_arrays_belong_to_the_caller(backend, assignment):
    """They never change later, share no memory, and writing to them changes nothing in the env."""

    def make():
        return make_vector_env("ComplexCartPole", 5, backend, task_assignment=assignment)

    vec, spoilt = make(), make()
    returned = [arrays(vec.reset())]
    actions = np.random.default_rng(0).integers(0, 2, (150, 5))
    kept = [[array.copy() for array in returned[0]]]
    for action in actions:
        returned.append(arrays(vec.step(action)))
        kept.append([array.copy() for array in returned[-1]])
    assert sum(len(row) == 11 for row in returned) > 10  # steps with an end: 4 arrays, and 7 in the info
    for row, copies in zip(returned, kept, strict=True):
        for array, copied in zip(row, copies, strict=True):
            np.testing.assert_array_equal(array, copied)
    for now, later in itertools.pairwise(returned):
        memory = [*now, *later]
        assert not any(np.shares_memory(a, b) for i, a in enumerate(memory) for b in memory[:i])

    first = arrays(spoilt.reset())
    for t in range(len(actions)):
        for array in first:
            array[:] = array.dtype.type(1)
        first = arrays(spoilt.step(actions[t]))
        for array, copied in zip(first, kept[t + 1], strict=True):
            np.testing.assert_array_equal(array, copied)


@pytest.mark.parametrize("backend", ["batched", "torch", "sync"])
@pytest.mark.parametrize("assignment", ["fixed", "cycle"])
def test_streams_do_not_depend_on_the_split(backend, assignment):
    actions = np.random.default_rng(0).integers(0, 2, (150, 10))
    whole = play(make_vector_env("ComplexCartPole", 10, backend, task_assignment=assignment), 150, actions=actions)
    for indices in ([0, 1, 2, 3, 4], [7, 5, 9]):
        part = make_vector_env(
            "ComplexCartPole", len(indices), backend, task_assignment=assignment, env_indices=indices, total_envs=10
        )
        for left, right in zip(whole, play(part, 150, actions=actions[:, indices]), strict=True):
            for a, b in zip(left, right, strict=True):
                np.testing.assert_array_equal(a[indices], b)


def test_streams_differ_between_envs_and_seeds():
    first = [make_vector_env("IdenticalCartPole", 10, seed=s).reset()[0] for s in (0, 1)]
    assert len(np.unique(np.concatenate(first), axis=0)) == 20


@pytest.mark.parametrize("backend", ["batched", "torch", "sync", "workers"])
def test_seed_of_reset(backend):
    vec = make_vector_env("ComplexCartPole", 3, backend, task_assignment="cycle")
    start, info = vec.reset()
    again, later = vec.reset()
    np.testing.assert_array_equal(later["task"], info["task"] + 1)  # the next episode, of the next task
    assert not (start == again).any()
    seeded, info = vec.reset(seed=11)
    np.testing.assert_array_equal(info["task"], [0, 1, 2])
    one_by_one = [get_suite("CartPole").make_task(0).reset(seed=11 + i)[0] for i in range(3)]
    np.testing.assert_array_equal(seeded, one_by_one)
    np.testing.assert_array_equal(vec.reset(seed=[11, 12, 13])[0], seeded)
    vec.close()


@pytest.mark.parametrize("backend", ["batched", "torch", "sync"])
def test_reset_of_some_envs(backend):
    vec = make_vector_env("ComplexCartPole", 3, backend, task_assignment="cycle")
    vec.reset()
    before = vec.step(np.zeros(3, dtype=np.int64))[0]
    obs, info = vec.reset(options={"reset_mask": np.array([False, True, False])})
    np.testing.assert_array_equal((obs == before).all(axis=1), [True, False, True])
    assert info["task"][1] == 2


@pytest.mark.parametrize(
    ("num_envs", "assignment", "expected"), [(10, "auto", "fixed"), (8, "auto", "cycle"), (10, "cycle", "cycle")]
)
def test_task_assignment(num_envs, assignment, expected):
    vec = make_vector_env("IdenticalCartPole", num_envs, task_assignment=assignment)
    tasks = np.stack([row[1] for row in play(vec, 100)])
    np.testing.assert_array_equal(tasks[0], np.arange(num_envs) % 5)
    assert (tasks == tasks[0]).all() == (expected == "fixed")


def test_auto_backend():
    assert type(make_vector_env("CartPole", 1)).__name__ == "BatchedVectorEnv"
    assert type(make_vector_env([{"id": "CartPole-v1"}], 1)).__name__ == "SyncEnvs"
