"""What an episode's success is, for training and for evaluations alike."""

import dataclasses
import statistics
from collections import Counter
from typing import Any, get_args

import numpy as np
import pytest
import torch
from goals_env import Goals

from varshare_pl.envs import TaskSuite, get_suite, make_vector_env
from varshare_pl.envs.success import SuccessMeasure
from varshare_pl.envs.vector import Backend
from varshare_pl.errors import ConfigError, EnvError
from varshare_pl.rollout.collector import Collector
from varshare_pl.trained.evaluation import EvaluationResult, evaluate

REDUCED = {
    "any": lambda scores: float(any(score > 0 for score in scores)),
    "last": lambda scores: scores[-1],
    "max": max,
    "mean": statistics.fmean,
}
PROCESSES = [name for name in get_args(Backend) if name in ("workers",)]
IN_THREADS = "ignore:This process .* is multi-threaded:DeprecationWarning"


def goals(reduce: Any = "any", solved: float | None = None, **kwargs: Any) -> TaskSuite:
    suite = get_suite([{"id": "goals_env:Goals-v0", "kwargs": {"task": task, **kwargs}} for task in range(2)])
    return dataclasses.replace(suite, success=SuccessMeasure("score", reduce, solved))


class Right:
    """Always takes action 1."""

    compilable = True

    def draw_noise(self, steps: int, envs: int) -> torch.Tensor:
        return torch.zeros(steps, envs, 1)

    def act(self, obs: Any, groups: Any, noise: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.ones(len(obs), dtype=torch.int64), torch.zeros(len(obs), 1)

    def to_env(self, actions: torch.Tensor) -> torch.Tensor:
        return actions


def collector(suite: TaskSuite, backend: Any = "sync", **options: Any) -> Collector:
    envs = make_vector_env(suite, 4, backend, seed=5, info_keys=suite.success.info_keys)
    return Collector(envs, 2, success=suite.success, **options)


def right(obs: torch.Tensor, task: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(obs), dtype=torch.int64)


def evaluated(suite: TaskSuite, episodes: int = 6, **options: Any) -> EvaluationResult:
    return evaluate(right, suite, episodes, 1, 0, envs_per_task=3, **options)


@pytest.mark.parametrize("reduce", REDUCED)
def test_training_episodes_have_the_number_reduced_by_hand(reduce: str) -> None:
    Goals.ended.clear()
    found = collector(goals(reduce))
    parts = [found.collect(Right(), 7, k).episodes for k in range(4)]  # episodes go on from one rollout to the next
    found.close()
    assert [int(task) for part in parts for task in part.task] == [task for task, _ in Goals.ended]
    assert [float(v) for part in parts for v in part.success] == [REDUCED[reduce](list(s)) for _, s in Goals.ended]
    assert [float(v) for part in parts for v in part.returns] == [len(scores) for _, scores in Goals.ended]
    assert all(part.success.dtype == torch.float64 for part in parts)
    assert len(Goals.ended) > 20


@pytest.mark.parametrize("reduce", REDUCED)
def test_evaluations_have_the_same_number(reduce: str) -> None:
    Goals.ended.clear()
    result = evaluated(goals(reduce, solved=-0.4))
    for task, rows in enumerate(result.success):
        mine = Counter(REDUCED[reduce](scores) for of, scores in Goals.ended if of == task)
        assert not Counter(rows.tolist()) - mine
        assert result.task_success[task] == pytest.approx(statistics.fmean(rows))
        assert result.task_solved[task] == (statistics.fmean(rows) >= -0.4)
    assert result.returns.shape == result.success.shape == (2, 6)
    again = EvaluationResult.from_plain(result.to_plain())
    assert again.success.tolist() == result.success.tolist()
    assert again.task_solved == result.task_solved


def test_one_env_alone_has_its_own_episodes_in_order() -> None:
    Goals.ended.clear()
    suite = goals("mean")
    result = evaluate(right, suite, 3, 1, 0, envs_per_task=1)
    for task in range(2):
        mine = [statistics.fmean(scores) for of, scores in Goals.ended if of == task]
        assert result.success[task].tolist() == pytest.approx(mine[:3])


@pytest.mark.parametrize("backend", PROCESSES)
@pytest.mark.parametrize("reduce", ["last", "mean"])
@pytest.mark.filterwarnings(IN_THREADS)
def test_envs_in_processes_tell_the_same(backend: Any, reduce: Any) -> None:
    for tells in ("always", "last"):
        here, there = (evaluated(goals(reduce, tells=tells), backend=name) for name in ("sync", backend))
        np.testing.assert_array_equal(here.success, there.success)


def test_an_episode_that_is_cut_counts_with_its_steps_up_to_there() -> None:
    Goals.begun.clear()
    result = evaluate(right, goals("max"), 5, 1, 0, envs_per_task=1, max_episode_steps=2)
    assert result.lengths.tolist() == [[2] * 5] * 2
    for task in range(2):
        mine = [max(scores[:2]) for of, scores in Goals.begun if of == task and scores]
        assert result.success[task].tolist() == mine[:5]


def test_a_step_that_tells_nothing_is_left_out_and_a_reset_is_no_step() -> None:
    Goals.ended.clear()
    found = collector(goals("max", tells="last"))
    told = found.collect(Right(), 20, 0).episodes.success.tolist()
    found.close()
    assert told == [scores[-1] for _, scores in Goals.ended]  # 77, from the reset, is in none


def test_episodes_under_way_go_on_from_a_state() -> None:
    first = collector(goals("mean"))
    first.collect(Right(), 9, 0)
    state = first.get_state()
    assert any(told for _, told in state["success"])
    expected = first.collect(Right(), 9, 1).episodes.success
    second = collector(goals("mean"))
    assert second.set_state(state) == 0
    assert second.collect(Right(), 9, 1).episodes.success.tolist() == expected.tolist()
    for one in (first, second):
        one.close()


def test_episodes_that_never_tell_it_are_nan_and_told_once() -> None:
    found = collector(goals(tells="odd"))
    with pytest.warns(UserWarning, match="no 'score', the last such one had: other; they") as told:
        rollouts = [found.collect(Right(), 30, k) for k in range(3)]
    found.close()
    assert len(told) == 1
    success = torch.cat([rollout.episodes.success for rollout in rollouts])
    assert 0 < int(success.isnan().sum()) < len(success)


def test_an_evaluation_counts_what_is_missing() -> None:
    result = evaluated(goals(tells="odd"))
    assert result.task_missing == [3, 3]  # each env's first episode
    np.testing.assert_allclose(result.task_success, np.nanmean(result.success, axis=1))
    assert result.notes == ["success missing: in 6 of 12 episodes, left out of its mean"]


def test_an_evaluation_that_never_tells_it_is_an_error_in_one_line() -> None:
    with pytest.raises(EnvError) as caught:
        evaluated(goals(tells="never"))
    text = str(caught.value)
    assert text.startswith("success.info: 'score' is in no info of the 6 episodes of task ")
    assert text.endswith("in an evaluation; the last info has: other")
    assert "\n" not in text


@pytest.mark.parametrize("value", ["good", [1, 2], float("nan")])
def test_what_is_no_number_names_env_task_and_step(value: Any) -> None:
    with pytest.raises(EnvError, match=r"^env 0 \(task 0\) at step 1 of its episode.*'score' in the info is no number"):
        evaluated(goals(value=value))


@pytest.mark.parametrize("value", [True, np.float32(0.5), np.array([1.0])])
def test_numbers_of_any_kind(value: Any) -> None:
    assert (evaluated(goals("max", value=value)).success == float(np.asarray(value).item())).all()


def test_where_the_measure_is_the_return_there_is_no_other_number() -> None:
    suite = get_suite([{"id": "goals_env:Goals-v0"}])
    result = evaluate(right, suite, 2, 1, 0)
    assert (result.success, result.task_success) == (None, None)
    assert result.task_measured.tolist() == result.task_returns.tolist()
    found = Collector(make_vector_env(suite, 2, seed=5), 1, success=suite.success)
    assert found.collect(Right(), 10, 0).episodes.success is None
    assert "success" not in found.get_state()
    found.close()


@pytest.mark.parametrize("key", ["task", "final_info", "_score"])
def test_keys_of_the_vector_env_are_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=f"info_keys: '{key}' is not allowed"):
        make_vector_env("CartPole", 1, info_keys=[key])
