"""A run of a suite whose success is a number of the info: what it writes, what it is judged by, and its report."""

import csv
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers import fit
from stopping import StopAfter

from varshare_pl.callbacks.checkpoint import Checkpoint
from varshare_pl.callbacks.evaluation import Evaluation
from varshare_pl.callbacks.heartbeat import Heartbeat
from varshare_pl.callbacks.loggers import results_to_log
from varshare_pl.callbacks.progress import progress_text
from varshare_pl.callbacks.run_files import RunFiles
from varshare_pl.checkpoints import read_checkpoint
from varshare_pl.envs import TaskSuite, get_suite
from varshare_pl.envs.success import SuccessMeasure
from varshare_pl.errors import ConfigError
from varshare_pl.results.columns import heartbeat_columns
from varshare_pl.results.files import read_diagnostics, read_heartbeat
from varshare_pl.results.plots import plot_run
from varshare_pl.results.report import write_report
from varshare_pl.results.study import read_study
from varshare_pl.rollout.datamodule import RolloutDataModule
from varshare_pl.study.runs import mean_over_run, read_progress


def goals(tells: str = "always") -> TaskSuite:
    """The mean score of an episode; solved where it is at least −0.2 on average."""
    tasks = [{"id": "goals_env:Goals-v0", "kwargs": {"task": task, "tells": tells}} for task in range(2)]
    return dataclasses.replace(get_suite(tasks), success=SuccessMeasure("score", "mean", -0.2))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A run of six rollouts with an evaluation after each, and its folder."""
    folder = tmp_path_factory.mktemp("logs") / "x" / "seed_1"
    evaluation = Evaluation(every=1, episodes=3)
    files = RunFiles(lambda path: path.write_text("{}\n"), evaluation.evaluator, "x")
    data = {"suite": goals(), "total_env_steps": 6 * 128}
    callbacks = [files, evaluation, Heartbeat(), Checkpoint(every=1)]
    run = fit(data, callbacks, {"default_root_dir": folder, "enable_checkpointing": True})
    return SimpleNamespace(folder=folder, run=run, evaluator=evaluation.evaluator, beats=read_heartbeat(folder))


def test_the_heartbeat_has_success_beside_the_return(done: SimpleNamespace) -> None:
    beats, evaluations = done.beats, [result for _, result in done.evaluator.history]
    assert list(beats) == heartbeat_columns(2, ["success"])
    for task in range(2):
        expected = [result.success[task].mean() for result in evaluations]
        np.testing.assert_allclose(beats[f"eval/success_task_{task}"], expected, rtol=1e-8)
        np.testing.assert_allclose(beats[f"eval/return_task_{task}"], [r.returns[task].mean() for r in evaluations])
    for kind in ("train", "eval"):  # a task ends an episode in every rollout
        means = (beats[f"{kind}/success_task_0"] + beats[f"{kind}/success_task_1"]) / 2
        np.testing.assert_allclose(beats[f"{kind}/success_mean"], means, rtol=1e-7)
    less = beats["train/success_task_0"] - beats["train/success_task_1"]  # task 1 tells 1 less
    assert less.mean() == pytest.approx(1, abs=0.2)


def test_the_best_checkpoint_is_that_of_the_highest_success(done: SimpleNamespace) -> None:
    success, returns = done.beats["eval/success_mean"], done.beats["eval/return_mean"]
    assert success.argmax() != returns.argmax()  # or the test could not tell
    best = read_checkpoint(done.folder / "checkpoints" / "best.ckpt")
    assert best["varshare"]["env_steps"] == done.beats["env_steps"][success.argmax()]


def test_what_is_logged_can_be_monitored(done: SimpleNamespace) -> None:
    logged = done.run.trainer.callback_metrics
    assert float(logged["eval/success_mean"]) == pytest.approx(done.beats["eval/success_mean"][-1])
    assert float(logged["eval/return_mean"]) == pytest.approx(done.beats["eval/return_mean"][-1])


def test_the_runs_files(done: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    identity = json.loads((done.folder / "run.json").read_text())
    assert identity["success"] == {"info": "score", "reduce": "mean", "solved": -0.2}
    assert identity["solved_return"] is None
    summary = json.loads((done.folder / "summary.json").read_text())
    final, result = summary["final"], done.evaluator.final[1]
    assert final["success_per_task"] == result.success.mean(1).tolist()
    assert final["success_mean"] == pytest.approx(result.success.mean())
    assert final["solved_per_task"] == [value >= -0.2 for value in final["success_per_task"]]
    assert len(summary["shared_only_success_per_task"]) == 2
    logged = results_to_log(summary, ["near", "far"])
    assert logged["final/success_mean"] == final["success_mean"]
    assert logged["final/success/far"] == final["success_per_task"][1]
    details = read_diagnostics(done.folder).where("eval/success_shared_only")
    assert details.task.tolist() == [0, 1]
    table = result.table(["near", "far"]).splitlines()
    assert table[0].split() == ["task", "mean", "success", "mean", "return", "min", "episodes", "solved"]
    assert table[2].split()[2] == f"{result.success[0].mean():.2f}"
    assert table[-1].endswith("solved: mean success >= -0.2")


def test_a_study_judges_it_by_success(done: SimpleNamespace) -> None:
    success = done.beats["eval/success_mean"]
    assert mean_over_run(done.folder, 768) == pytest.approx(success.mean())
    progress = read_progress(done.folder)
    assert (progress.measure, progress.mean) == ("success", pytest.approx(done.beats["train/success_mean"][-1]))


def test_the_report_scores_success_as_it_is(done: SimpleNamespace, drawn: dict[str, Any]) -> None:
    report = write_report(done.folder.parent)
    study = read_study(done.folder.parent)
    (suite,) = study.suites
    assert (suite.unit, suite.measure, suite.anchors) == ("score", "success", None)
    with (done.folder.parent / "report" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    final = json.loads((done.folder / "summary.json").read_text())["final"]

    def value(metric: str, task: str, seed: str = "1") -> float:
        (row,) = [r for r in rows if (r["metric"], r["task"], r["seed"]) == (metric, task, seed)]
        return float(row["value"])

    for task in ("0", "1"):
        expected = pytest.approx(final["success_per_task"][int(task)], rel=1e-8)
        assert value("final/success", task) == value("final/score", task) == expected
        assert value("final/success", task, seed="") == expected
        assert value("final/return", task) == pytest.approx(final["return_per_task"][int(task)], rel=1e-8)
    area = np.trapezoid(done.beats["eval/success_mean"], done.beats["env_steps"]) / np.ptp(done.beats["env_steps"])
    assert value("area_under_curve/score", "") == pytest.approx(area)
    text = (done.folder.parent / "report" / "report.md").read_text()
    assert "| success | the mean score of the info over the steps |" in text
    assert "every task's mean success ≥ -0.2" in text
    assert "final success" in text
    assert "Final success by task" in text
    assert "no anchors" not in text
    assert "mean success, as it is" in text
    assert "mean" in report.text


def test_the_plots_show_both(done: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, list[str]] = {}

    def note(heading: str, panels: list[Any], *layout: Any) -> None:
        drawn[heading.partition(":")[0]] = [panel.ylabel for panel in panels]

    monkeypatch.setattr("varshare_pl.results.style.draw_sheet", note)
    monkeypatch.setattr("varshare_pl.results.images.write_image", lambda image, path: path)
    plot_run(done.folder)
    assert drawn["Success and returns"] == ["mean success", "mean success", "mean return", "mean return"]


def test_a_resumed_run_knows_the_success_so_far(tmp_path: Path) -> None:
    """Episodes go on over rollouts of two steps, and a task's latest mean over those in which none ended."""
    data = {"suite": goals(), "rollout_steps": 2, "total_env_steps": 160}
    whole = fit(data, minibatch_size=8).records
    fit(data, [StopAfter(7, tmp_path / "a.ckpt")], minibatch_size=8)
    rest = fit(data, ckpt_path=tmp_path / "a.ckpt", minibatch_size=8).records
    assert len(rest) == 13
    for ours, theirs in zip(rest, whole[7:], strict=True):
        found, expected = (
            {name: value for name, value in record.metrics.items() if name.startswith("train/")}
            for record in (ours, theirs)
        )
        assert found == expected
        assert "train/success_mean" in found


def test_missing_success_is_counted_and_warned_of_once() -> None:
    evaluation = Evaluation(every=1, episodes=4, envs_per_task=2)
    with pytest.warns(UserWarning, match="success") as caught:
        run = fit({"suite": goals("odd")}, [evaluation])
    told = [str(warning.message) for warning in caught if "success" in str(warning.message)]
    assert len([text for text in told if "of training has no 'score'" in text]) == 1
    assert [text for text in told if "of training" not in text] == [
        "success missing: in 4 of 8 episodes, left out of its mean; eval/success_missing in diagnostics.csv counts them"
    ]
    for record in run.records:
        counts = {(d.metric, d.task): d.value for d in record.details if d.metric.endswith("success_missing")}
        assert counts["eval/success_missing", 0] == counts["eval/success_missing", 1] == 2
        assert counts["train/success_missing", 0] > 0


@pytest.mark.parametrize("name", ["success", "success_mean", "success_missing", "success_task_1"])
def test_info_metrics_may_not_take_its_names(name: str) -> None:
    with pytest.raises(ConfigError, match=f"data.info_metrics: {name} is not allowed; it is the name of a metric"):
        RolloutDataModule(suite=goals(), info_metrics=[name], num_envs=4)  # type: ignore[arg-type]


def test_the_progress_line_shows_success_and_the_return_beside() -> None:
    known = {"train/return_mean": 212.4, "train/return_task_0": 1.0, "train/return_task_1": 2.0, "sps": 3e4}
    known |= {"train/success_mean": 0.625, "train/success_task_0": 0.75, "train/success_task_1": 0.5}
    line = progress_text(140, 100, 1000, 3e4, 1.0, known)
    assert "success 0.625" in line
    assert "worst  0.5 (task 1)" in line
    assert "return  212" in line
    assert "return" not in progress_text(60, 100, 1000, 3e4, 1.0, known)
