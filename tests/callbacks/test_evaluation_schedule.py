"""When the callback evaluates, what it writes down, and when it ends a run."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from helpers import PLAIN_ARGS, fit

from varshare_pl.callbacks.evaluation import Evaluation
from varshare_pl.cli.main import main

BANDIT: dict[str, Any] = {"suite": "ConflictBandit", "num_envs": 5, "rollout_steps": 8, "total_env_steps": 400}


def rows_with_evaluation(records: list[Any]) -> list[int]:
    return [record.env_steps for record in records if "eval/return_mean" in record.metrics]


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        (0, [400]),
        (100, [120, 200, 320, 400]),  # the first rollout that ends at or after 100, 200, 300, and the last one
        (40, list(range(40, 401, 40))),
        (1000, [400]),
    ],
)
def test_evaluations_are_due_by_env_steps_and_at_the_end(every: int, expected: list[int]) -> None:
    evaluation = Evaluation(every=every, episodes=1)
    run = fit(BANDIT, [evaluation], minibatch_size=20)
    assert rows_with_evaluation(run.records) == expected == [steps for steps, _ in evaluation.evaluator.history]
    assert evaluation.evaluator.final is not None
    assert evaluation.evaluator.final[0] == 400


def test_the_last_row_tells_what_sharing_alone_achieves() -> None:
    run = fit(BANDIT, [Evaluation(every=0, episodes=2)], minibatch_size=20)
    last = {
        detail.task: detail.value for detail in run.records[-1].details if detail.metric == "eval/return_shared_only"
    }
    assert last.keys() == set(range(5))
    assert sum(last.values()) == 1.0  # one policy for all is right for one of five tasks
    assert not any(d.metric == "eval/return_shared_only" for record in run.records[:-1] for d in record.details)


def test_stop_when_solved(tmp_path: Path) -> None:
    args = [
        "fit",
        "--data.suite",
        "ConflictBandit",
        "--data.total_env_steps",
        "60000",
        *PLAIN_ARGS,
        "--logs_dir",
        str(tmp_path),
    ]
    args += ["--evaluation.every", "5120", "--evaluation.stop_when_solved", "2", "--plots.enabled", "false"]
    assert main([*args, "--experiment", "x"]) == 0
    run = tmp_path / "x" / "seed_1"
    summary = json.loads((run / "summary.json").read_text())
    with (run / "heartbeat.csv").open() as table:
        evaluations = [float(row["eval/return_mean"]) for row in csv.DictReader(table) if row["eval/return_mean"]]
    assert [value >= 0.95 for value in evaluations[-3:]] in ([False, True, True], [True, True])
    assert summary["env_steps"] < summary["total_env_steps"][0]
    assert summary["final"]["env_steps"] == summary["env_steps"]
    assert summary["final"]["solved"]
