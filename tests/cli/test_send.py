"""Runs sent to trackers, by stand-ins of their packages that note what they are told."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from varshare_pl.cli.main import main

SMALL = ["--data.num_envs", "5", "--data.rollout_steps", "16", "--data.total_env_steps", "160", "--experiment", "e"]
SMALL += ["--model.minibatch_size", "40", "--model.hidden_sizes", "[8]", "--evaluation.episodes", "1"]
SMALL += ["--plots.enabled", "false", "--data.suite", "ComplexCartPole"]
NOTING = """
import json
from contextlib import contextmanager
from pathlib import Path

def _note(*call):
    with Path("calls.jsonl").open("a") as file:
        file.write(json.dumps(call) + chr(10))
"""
MLFLOW = """
def set_experiment(name): _note("set_experiment", name)

@contextmanager
def start_run(run_name):
    _note("start_run", run_name)
    yield
    _note("end_run")

def log_params(params):
    assert len(params) <= 100 and all(len(value) <= 6000 for value in params.values())
    _note("log_params", params)

def log_metrics(metrics, step): _note("log_metrics", metrics, step)
"""
TRACKIO = """
def init(project, name, config): _note("init", project, name, config)
def log(metrics, step): _note("log", metrics, step)
def finish(): _note("finish")
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    logs = tmp_path_factory.mktemp("sent")
    assert main(["fit", *SMALL, "--logs_dir", str(logs)]) == 0
    return logs / "e" / "seed_1"


def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: str, *args: str) -> list[list[Any]]:
    """What a stand-in is told by a command."""
    (tmp_path / f"{name}.py").write_text(NOTING + code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, name, raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(["send", *args, "--to", name]) == 0
    return [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]


def heartbeat(run: Path) -> list[dict[str, str]]:
    with (run / "heartbeat.csv").open(newline="") as table:
        return list(csv.DictReader(table))


def check_rows(rows: list[list[Any]], run: Path) -> None:
    beats = heartbeat(run)
    assert [step for *_, step in rows[: len(beats)]] == [80, 160]
    for (_, values, _), beat in zip(rows, beats, strict=False):
        assert next(iter(values)).startswith(("eval/", "train/"))
        assert len(values) == sum(cell != "" for cell in beat.values())
        assert values["loss/total"] == pytest.approx(float(beat["loss/total"]), rel=1e-8)
    assert rows[1][1]["eval/return/low gravity"] == float(beats[1]["eval/return_task_3"])
    summary = json.loads((run / "summary.json").read_text())
    assert rows[-1][1]["final/return_mean"] == summary["final"]["return_mean"]
    assert rows[-1][2] == 160


def test_mlflow_gets_config_values_and_results(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = calls(tmp_path, monkeypatch, "mlflow", MLFLOW, str(run), "--project", "mine")
    assert told[:2] == [["set_experiment", "mine"], ["start_run", "e/seed_1"]]
    assert told[-1] == ["end_run"]
    params = {key: value for name, *given in told if name == "log_params" for key, value in given[0].items()}
    assert (params["method"], params["model.kl_weight"], params["data.num_envs"]) == ("varshare", "0.1", "5")
    check_rows([call for call in told if call[0] == "log_metrics"], run)


def test_trackio_gets_the_same(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = calls(tmp_path, monkeypatch, "trackio", TRACKIO, str(run), str(run))
    name, project, title, config = told[0]
    assert (name, project, title) == ("init", "varshare", "e/seed_1")
    assert config["model.kl_weight"] == 0.1
    (first, second) = (index for index, call in enumerate(told) if call == ["finish"])
    assert told[: first + 1] == told[first + 1 : second + 1]  # two runs, one after the other
    check_rows(told[1:first], run)


def test_names_are_of_the_characters_that_mlflow_allows(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "logs" / "seed_1"
    copy.mkdir(parents=True)
    for name in ("config.yaml", "heartbeat.csv", "diagnostics.csv"):
        (copy / name).write_text((run / name).read_text())
    info = json.loads((run / "run.json").read_text()) | {"task_names": ["a×(2)", "b:1", "c", "d", "e"]}
    (copy / "run.json").write_text(json.dumps(info))
    told = calls(tmp_path, monkeypatch, "mlflow", MLFLOW, str(copy))
    metrics = [call[1] for call in told if call[0] == "log_metrics"]
    assert len(metrics) == 2  # a run without a summary has no results yet
    assert {"eval/return/a__2_", "eval/return/b:1"} <= set(metrics[1])


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["none", "--to", "mlflow"], "send: none is not the folder of a run, it has no config.yaml"),
        (["RUN", "--to", "trackio"], "--to: trackio is not installed; pip install trackio"),
        (
            ["RUN", "--to", "aim"],
            "send: argument --to: invalid choice: 'aim' (choose from 'mlflow', 'trackio'); 'varshare send --help' "
            "lists all options",
        ),
    ],
)
def test_mistakes_are_one_line(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], args: list[str], told: str
) -> None:
    monkeypatch.setattr("varshare_pl.cli.send.find_spec", lambda name: None)
    assert main(["send", *(str(run) if arg == "RUN" else arg for arg in args)]) == 2
    assert capsys.readouterr().err.splitlines() == [f"varshare: error: {told}"]
