"""Worker processes: the trajectories of sync, and how they are started."""

import copy
import dataclasses
import json
import os

import gymnasium as gym
import numpy as np
import pytest
from worker_envs import IDS, Trouble, make, play

from varshare_pl.envs import get_state, get_suite, make_vector_env, set_state
from varshare_pl.envs.success import SuccessMeasure
from varshare_pl.errors import ConfigError, EnvError


def same(left, right):
    """Whether what two backends returned has the same bits."""
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    return np.array_equal(np.stack(list(left)), np.stack(list(right)))


def numbers(info):
    """What both tell of a step: the numbers asked for, and the last infos."""
    final = info.get("final_info", {})
    kept = {key: info[key] for key in ("task", "score", "_score", "final_obs", "_final_obs") if key in info}
    if "final_obs" in kept:
        dense = np.zeros((len(info["task"]), 2), np.float32)
        for i in np.flatnonzero(info["_final_obs"]):
            dense[i] = info["final_obs"][i]
        kept["final_obs"] = dense
    return kept | {f"final {key}": final[key] for key in ("task", "_task", "score", "none", "_none") if key in final}


@pytest.mark.parametrize(("num_envs", "assignment"), [(6, "fixed"), (5, "cycle")])
@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_the_bits_of_sync_and_any_number_of_workers_goes_on(num_envs, assignment, num_workers):
    options = {"task_assignment": assignment, "info_keys": ("score",)}
    sync, workers = make(num_envs, "sync", **options), make(num_envs, **options)
    assert same(sync.reset()[0], workers.reset()[0])
    for left, right in zip(play(sync, 23), play(workers, 23), strict=True):
        assert all(same(a, b) and a.dtype == b.dtype for a, b in zip(left[:4], right[:4], strict=True))
        assert same(numbers(left[4]), numbers(right[4]))
    state = json.loads(json.dumps(get_state(workers)))
    assert state == get_state(sync)
    workers.close()
    resumed = make(num_envs, num_workers=num_workers, **options)
    obs, task = set_state(resumed, state)
    assert same(obs, set_state(sync, state)[0])
    assert task.tolist() == [env["task"] for env in state["envs"]]
    for left, right in zip(play(sync, 9, seed=1), play(resumed, 9, seed=1), strict=True):
        assert all(same(a, b) for a, b in zip(left[:4], right[:4], strict=True))
        assert same(numbers(left[4]), numbers(right[4]))
    resumed.close()


@pytest.mark.parametrize("seed", [7, [4, None, 6]])
def test_resets_with_seeds_and_of_some_envs(seed):
    sync, workers = make(3, "sync"), make(3)
    mask = np.array([False, True, True])
    for options in ({}, {"seed": seed}, {"options": {"reset_mask": mask}}, {"options": {"x": 1}}):
        expected = sync.reset(**copy.deepcopy(options))[0]  # which takes the mask out
        assert same(expected, workers.reset(**options)[0])
        assert same(play(sync, 3)[-1][0], play(workers, 3)[-1][0])
    workers.close()


def test_what_is_returned_belongs_to_the_caller():
    vec = make(3)
    first, info = vec.reset()
    kept, task = first.copy(), info["task"].copy()
    obs, reward, *_ = vec.step(np.ones(3, np.int64))
    old = obs.copy(), reward.copy()
    obs[:], reward[:] = 9, 9
    again = vec.step(np.zeros(3, np.int64))
    assert not same(again[0], obs)
    assert same(first, kept)
    assert same(info["task"], task)
    assert old[1].tolist() == [1, 1, 1]
    vec.close()


def test_each_worker_has_a_mix_of_tasks():
    vec = make(12, num_workers=2)
    places, tasks = np.array(vec.call("place")), np.array(vec.call("task"))
    assert len(set(places)) == 2
    assert os.getpid() not in places
    for place in set(places):
        assert np.bincount(tasks[places == place]).tolist() == [2, 2, 2]
    assert vec.call("threads") == ("1",) * 12
    vec.close()


def test_no_more_workers_than_envs_and_pictures_of_all():
    vec = make(3, num_workers=9, render_mode="rgb_array")
    assert len(set(vec.call("place"))) == 3
    vec.reset()
    vec.step(np.zeros(3, np.int64))
    assert [image[0, 0, 0] for image in vec.render()] == [1, 1, 1]
    vec.close()


@pytest.mark.parametrize("context", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_other_ways_to_start(context):
    sync, workers = make(3, "sync"), make(3, context=context)
    assert same(sync.reset()[0], workers.reset()[0])
    assert same(play(sync, 5)[-1][0], play(workers, 5)[-1][0])
    workers.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_ids_that_a_script_registers():
    gym.register("ByClass-v0", Trouble)
    gym.register("ByLambda-v0", lambda: Trouble(fault="none"))
    try:
        for task, options in (("ByClass-v0", {}), ("ByLambda-v0", {"context": "fork"})):
            vec = make_vector_env([task], 1, "workers", **options)
            vec.reset()
            vec.close()
        with pytest.raises(EnvError, match=r"^env 0 \(task 0, ByLambda-v0\) while it was made raised NameNotFound: "):
            make_vector_env(["ByLambda-v0"], 1, "workers")
    finally:
        del gym.registry["ByClass-v0"], gym.registry["ByLambda-v0"]


def test_what_cannot_be_sent_is_told():
    suite = get_suite(IDS)
    task = dataclasses.replace(suite.tasks[0], attributes={"fault": lambda: None})
    with pytest.raises(
        ConfigError, match=r"backend='workers': the suite .* cannot be sent to another process"
    ) as error:
        make_vector_env(dataclasses.replace(suite, tasks=(task,)), 1, "workers")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_workers": 0}, "num_workers=0: must be an integer of at least 1"),
        ({"num_workers": 2, "backend": "sync"}, "num_workers=2: the backend is 'sync', which has no workers"),
        ({"num_workers": 2, "suite": "CartPole"}, "num_workers=2: the backend is 'batched', which has no workers"),
        ({"worker_timeout": 2.0}, "worker_timeout=2.0: the backend is 'sync', which has no workers"),
        ({"worker_timeout": 0.0, "num_workers": 1}, "worker_timeout=0.0: must be a number of seconds above 0"),
        ({"context": "spawn", "backend": "sync"}, "context='spawn': the backend is 'sync', which has no workers"),
        ({"context": "thread", "num_workers": 1}, "context='thread': allowed: fork"),
    ],
)
def test_options_that_are_refused(options, text):
    with pytest.raises(ConfigError) as error:
        make_vector_env(**{"suite": IDS, "num_envs": 3, **options})
    assert str(error.value).startswith(text)


def test_auto_takes_workers_where_their_number_is_given():
    vec = make_vector_env(IDS, 3, num_workers=1)
    assert type(vec).__name__ == "WorkerEnvs"
    vec.close()


def test_what_success_is_read_from_is_told_at_every_step():
    suite = dataclasses.replace(get_suite(IDS), success=SuccessMeasure(info="score"))
    vec = make_vector_env(suite, 3, "workers", num_workers=1)
    vec.reset()
    assert vec.step(np.zeros(3, np.int64))[-1]["score"].tolist() == [0.125] * 3
    assert "score" not in vec.step(np.zeros(3, np.int64))[-1]
    vec.close()
