"""A run from Python is the run of the command line: the same bits, the same refusals."""

import builtins
import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import varshare_pl as vs
from varshare_pl.cli.main import main
from varshare_pl.errors import ConfigError

SIZES = {"data.num_envs": 5, "data.rollout_steps": 8, "data.total_env_steps": 240, "model.minibatch_size": 20}
SIZES |= {"model.hidden_sizes": [8], "evaluation.episodes": 1, "evaluation.every": 80}
CLOCK = {"wall_time_s", "sps"}


def as_arguments(options: dict[str, Any]) -> list[str]:
    return [part for key, value in options.items() for part in (f"--{key}", str(value))]


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of PaCo that the command line has made."""
    logs = tmp_path_factory.mktemp("typed")
    args = ["fit", "--config", "complex_cartpole", "--config", "methods/paco", *as_arguments(SIZES)]
    assert main([*args, "--seed_everything", "3", "--logs_dir", str(logs)]) == 0
    return logs / "complex_cartpole_paco" / "seed_3"


@pytest.fixture(scope="module")
def called(tmp_path_factory: pytest.TempPathFactory) -> vs.Run:
    """The same run, made from Python."""
    logs = tmp_path_factory.mktemp("called")
    return vs.train("complex_cartpole", method="paco", seed=3, options={**SIZES, "logs_dir": logs})


def test_the_folder_is_that_of_the_command_line_bit_for_bit(typed: Path, called: vs.Run) -> None:
    def names(folder: Path) -> list[str]:
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))

    assert called.folder.parts[-2:] == typed.parts[-2:]
    assert names(called.folder) == names(typed)
    tables = []
    for folder in (typed, called.folder):
        with (folder / "heartbeat.csv").open() as file:
            tables.append([{k: v for k, v in row.items() if k not in CLOCK} for row in csv.DictReader(file)])
    assert tables[0] == tables[1]
    assert len(tables[0]) == 6
    checkpoints = [torch.load(f / "checkpoints" / "last.ckpt", weights_only=True) for f in (typed, called.folder)]
    ours, theirs = (checkpoint["state_dict"] for checkpoint in checkpoints)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    configs = [re.sub(r"logs_dir: .*", "", (f / "config.yaml").read_text()) for f in (typed, called.folder)]
    assert configs[0] == configs[1]


def test_a_config_in_a_dict_means_what_its_file_would(tmp_path: Path) -> None:
    config = {"seed_everything": 4, "experiment": "x", "data": {"num_envs": 5, "rollout_steps": 8}}
    config |= {"model": {"hidden_sizes": (8,), "sharing": "shared"}, "logs_dir": tmp_path / "logs"}
    sizes = {"data.total_env_steps": 40, "model.minibatch_size": 40, "evaluation.episodes": 1}
    run = vs.train(config, options={**sizes, "plots.enabled": False})
    assert run.folder == tmp_path / "logs" / "x" / "seed_4"
    assert (run.summary["method"], run.summary["hidden_sizes"]) == ("shared", [8])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("complex_cartpol",), "--config: complex_cartpol is neither .*; did you mean complex_cartpole?"),
        (("cartpole", "pacco"), "--config: methods/pacco is neither .*; did you mean methods/paco?"),
        (("cartpole", None, -1), "seed_everything: -1 is not allowed; an integer of at least 0 is"),
        (("cartpole", None, 1, {"model.kl_weigth": 1}), "--model.kl_weigth: unknown option; did you mean --model.kl_w"),
        (("cartpole", None, 1, {"data.num_envs": "many"}), "data.num_envs: many is not allowed; a positive integer"),
        (("cartpole", None, 1, {"data.num_envs": np.zeros(2)}), "data.num_envs: array.* is not allowed; a number"),
        (("cartpole", None, 1, {"trainer.max_epochs": 3}), "trainer.max_epochs: not allowed; the length of a run"),
        (("cartpole", None, 1, {"help": True}), "options: help and print_config are of the command line alone"),
        (({"data": {"num_env": 3}},), r"data.num_env: unknown key; did you mean data.num_envs\? \(config\)"),
        (({"data": {"seed": object}},), "config: .*object.* is not allowed; what a config file can hold is"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[Any, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message) as told:
        vs.train(*given)
    assert "\n" not in str(told.value)
    assert list(tmp_path.iterdir()) == []


def test_lines_of_progress_are_printed_where_there_is_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {**SIZES, "data.total_env_steps": 800, "logs_dir": tmp_path, "plots.enabled": False}
    vs.train("complex_cartpole", options=options)
    lines = [line for line in capsys.readouterr().out.splitlines() if "━" in line]
    assert [line.split("%")[0].strip() for line in lines] == [str(10 * k) for k in range(1, 11)]
    assert "800/800 steps" in lines[-1]
    assert "done" in lines[-1]


def test_the_tables(called: vs.Run) -> None:
    metrics, details = called.metrics, called.diagnostics
    assert metrics["env_steps"].tolist() == [40, 80, 120, 160, 200, 240]
    assert metrics["env_steps"].dtype == "Int64"
    assert metrics["eval/return_mean"].notna().tolist() == [False, True, False, True, False, True]
    assert list(details.columns) == ["env_steps", "metric", "network", "layer", "task", "value"]
    of_rate = details[details["metric"] == "diagnostics/lr"]
    assert {"actor", "critic"} <= {name.partition("_")[0] for name in of_rate["network"]}
    assert of_rate["layer"].isna().all()
    assert of_rate["task"].isna().all()
    by_task = details[details["metric"] == "loss/value"]
    assert sorted(by_task["task"].unique()) == [0, 1, 2, 3, 4]
    assert by_task["network"].isna().all()


def test_without_pandas_one_line_names_what_installs_it(called: vs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "pandas":
            raise ImportError("No module named 'pandas'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pandas.*pip install 'varshare-pl\[notebook\]'$"):
        _ = called.metrics


def test_summary_policy_and_report(called: vs.Run) -> None:
    assert called.summary == json.loads((called.folder / "summary.json").read_text())
    assert called.policy.method == "paco"
    report = called.report()
    assert "complex" in report.files[0].read_text(encoding="utf-8").lower()
    assert called.folder / "report" / "report.html" in report.files


def test_plots_are_those_of_the_folder(called: vs.Run) -> None:
    for image in (called.folder / "plots").glob("*.png"):
        shown = called.plot(image.stem)
        assert shown.axes, image
    png = called.plot("returns")._repr_png_()
    assert png.startswith(b"\x89PNG")
    there = {image.stem for image in (called.folder / "plots").glob("*.png")}
    with pytest.raises(ConfigError, match=r"plot: retruns is not allowed; returns, .*losses is") as told:
        called.plot("retruns")
    assert set(re.findall(r"\w+", str(told.value).partition(";")[2])) - {"is"} == there


def test_a_run_is_loaded_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {**SIZES, "logs_dir": tmp_path, "experiment": "x", "plots.enabled": False}
    vs.train("complex_cartpole", options=options)
    run = vs.load_run(tmp_path / "x" / "seed_1")
    with pytest.raises(ConfigError, match=r"the run in .* is finished after 240 env steps; a larger"):
        run.resume()
    with pytest.raises(ConfigError, match=r"^model.kl_weight: 0.5 is not allowed when going on with"):
        run.resume({"model.kl_weight": 0.5})
    assert run.resume({"data.total_env_steps": 320}) == run
    assert run.metrics["env_steps"].tolist()[-1] == run.summary["env_steps"] == 320
    with pytest.raises(ConfigError, match=r"load_run: .* is not the folder of a run, it has no config.yaml"):
        vs.load_run(tmp_path)
    assert isinstance(run.metrics, pd.DataFrame)


def test_ctrl_c_ends_the_cell_and_the_run_goes_on(tmp_path: Path) -> None:
    options = {**SIZES, "logs_dir": tmp_path, "experiment": "x", "plots.enabled": False}
    stop = {"trainer.callbacks": [{"class_path": "stopping.Interrupt", "init_args": {"after": 2}}]}
    with pytest.raises(KeyboardInterrupt, match=r"stopped by SIGINT; load_run\('.*seed_1'\).resume\(\) goes on"):
        vs.train("complex_cartpole", options={**options, **stop})
    run = vs.load_run(tmp_path / "x" / "seed_1")
    assert run.summary == {}
    assert len(run.metrics) == 3  # it came once the second one was over
    assert run.resume({"trainer.callbacks": None}).summary["env_steps"] == 240
