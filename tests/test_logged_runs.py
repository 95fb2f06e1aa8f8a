"""The loggers of ``--logger`` in real runs; what they wrote is read back."""

import csv
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb_records import read_offline

from varshare_pl.callbacks.heartbeat import Heartbeat
from varshare_pl.callbacks.logged_values import column_names, config_to_log
from varshare_pl.cli.main import main
from varshare_pl.results.info import read_run_info

ALL = "wandb,tensorboard,csv"
TIMING = ("wall_time_s", "sps")
SMALL = ["--data.num_envs", "5", "--data.rollout_steps", "16", "--data.total_env_steps", "480", "--experiment", "e"]
SMALL += ["--model.minibatch_size", "40", "--model.hidden_sizes", "[8]", "--evaluation.episodes", "2"]
SMALL += [
    "--logger_detail",
    "all",
    "--evaluation.every",
    "160",
    "--model.diagnostics_every",
    "4",
    "--checkpoint.every",
    "1",
]
UNDRAWN = ["--plots.enabled", "false"]
STEPS = list(range(80, 481, 80))
NAMES = column_names(["baseline", "short light pole", "long heavy pole", "low gravity", "tight limits"])

IMAGES = ("returns", "residuals", "similarity")  # a sheet of curves, and the two of the tasks' own weights


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without loggers."""
    logs = tmp_path_factory.mktemp("plain")
    assert main(["fit", *SMALL, *UNDRAWN, "--logs_dir", str(logs)]) == 0
    return logs / "e" / "seed_1"


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run with all loggers."""
    logs = tmp_path_factory.mktemp("logged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        assert main(["fit", *SMALL, "--logs_dir", str(logs), "--logger", ALL]) == 0
    return logs / "e" / "seed_1"


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, stopped after four rollouts of six, and resumed where a kill has left only the checkpoint of three."""
    run = tmp_path_factory.mktemp("resumed") / "e" / "seed_1"
    record = Heartbeat.on_train_batch_end

    def stop(self: Any, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        record(self, trainer, module, outputs, batch, index)
        if batch.index == 2:  # heard at the end of the next rollout: who listens stands before the heartbeat
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        with patch.context() as inner:
            inner.setattr(Heartbeat, "on_train_batch_end", stop)
            options = [*SMALL, *UNDRAWN, "--logs_dir", str(run.parents[1]), "--logger", ALL]
            assert main(["fit", *options]) == 128 + signal.SIGTERM
        shutil.copy(run / "checkpoints" / "previous.ckpt", run / "checkpoints" / "last.ckpt")
        with (run / "csv" / "metrics.csv").open("a") as table:
            table.write("0.25,0.5")  # the beginning of a row
        assert main(["resume", str(run), "--plots.enabled", "true"]) == 0
    return run


def heartbeat(run: Path) -> list[dict[str, str]]:
    with (run / "heartbeat.csv").open(newline="") as table:
        return [{k: v for k, v in row.items() if k not in TIMING} for row in csv.DictReader(table)]


def csv_rows(run: Path) -> list[dict[str, str]]:
    with (run / "csv" / "metrics.csv").open(newline="") as table:
        return list(csv.DictReader(table))


def events(run: Path) -> EventAccumulator:
    return EventAccumulator(str(run / "tensorboard")).Reload()


def config_of(run: Path) -> dict[str, Any]:
    return config_to_log(yaml.safe_load((run / "config.yaml").read_text()), read_run_info(run))


def pngs(run: Path) -> set[str]:
    return {f"plots/{path.stem}" for path in (run / "plots").iterdir()}


def weights(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.parametrize("name", ["logged", "resumed"])
def test_loggers_change_no_bit_of_the_run(plain: Path, name: str, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(name)
    torch.testing.assert_close(weights(run), weights(plain), rtol=0, atol=0, equal_nan=True)
    assert heartbeat(run) == heartbeat(plain)
    assert (run / "diagnostics.csv").read_text() == (plain / "diagnostics.csv").read_text()


def test_wandb_holds_the_whole_run(logged: Path) -> None:
    (part,) = read_offline(logged)
    assert (part.run.display_name, part.run.run_group, part.run.project) == ("e/seed_1", "e", "varshare")
    assert list(part.run.tags) == ["ComplexCartPole", "varshare"]
    assert part.run.run_id == (logged / "wandb" / "run_id").read_text().strip()
    assert part.exit_code == 0
    config = config_of(logged)
    assert {key: part.config[key] for key in config} == config
    assert part.config["model.adam_eps"] == 1e-5
    assert [row["env_steps"] for row in part.history] == [row["_step"] for row in part.history] == STEPS
    for row, beat in zip(part.history, heartbeat(logged), strict=True):
        values = {name: row.get(NAMES[name]) for name in beat}
        assert values == {name: pytest.approx(float(cell), rel=1e-6) if cell else None for name, cell in beat.items()}
    assert "sharing/ratio/actor/layer_1/tight limits" in part.history[0]
    (everything,) = [metric for metric in part.metrics if metric.glob_name == "*"]
    assert everything.step_metric == "env_steps"
    hidden = {metric.name for metric in part.metrics if metric.options.hidden}
    assert hidden == {"env_steps", "episodes", "gradient_steps", "wall_time_s"}


def test_wandb_holds_plots_and_results(logged: Path) -> None:
    (part,) = read_offline(logged)
    last = part.history[-1]
    assert {name for name in last if name.startswith("plots/")} == pngs(logged)
    for name in IMAGES:
        image = last[f"plots/{name}"]
        assert image["_type"] == "image-file"
        assert image["width"] > 800
        assert image["height"] > 300
        (copy,) = (logged / "wandb").glob(f"offline-run-*/files/{image['path']}")
        assert copy.read_bytes() == (logged / "plots" / f"{name}.png").read_bytes()
    final = json.loads((logged / "summary.json").read_text())["final"]
    assert part.summary["final/return_mean"] == final["return_mean"]
    assert part.summary["final/return/tight limits"] == final["return_per_task"][4]
    assert part.summary["gradient_steps"] == float(heartbeat(logged)[-1]["gradient_steps"])


def test_wandb_goes_on_with_the_same_run(resumed: Path) -> None:
    first, second = read_offline(resumed)
    assert first.run.run_id == second.run.run_id
    assert [row["env_steps"] for row in first.history] == STEPS[:4]
    assert [row["_step"] for row in second.history] == STEPS[3:]
    assert second.run.resume
    assert "final/return_mean" in second.summary
    assert "final/return_mean" not in first.summary


@pytest.mark.parametrize("name", ["logged", "resumed"])
def test_tensorboard_holds_the_whole_run(name: str, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(name)
    found = events(run)
    for column in ("loss/total", "train/return_mean", "eval/return_task_3", "gradient_steps"):
        expected = {int(row["env_steps"]): float(row[column]) for row in heartbeat(run) if row[column]}
        assert [e.step for e in found.Scalars(NAMES[column])] == list(expected)
        assert {e.step: e.value for e in found.Scalars(NAMES[column])} == pytest.approx(expected, rel=1e-6)
    assert [e.step for e in found.Scalars("sharing/energy/critic/head")] == [80, 400, 480]
    assert set(found.Tags()["images"]) == pngs(run)
    for plot in IMAGES:
        image = found.Images(f"plots/{plot}")[-1]
        assert (image.step, image.encoded_image_string) == (480, (run / "plots" / f"{plot}.png").read_bytes())
        assert image.width > 800
        assert image.height > 300


def test_tensorboard_has_a_table_of_hyperparameters(logged: Path) -> None:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    found = events(logged)

    def content(tag: str) -> Any:
        return HParamsPluginData.FromString(found.SummaryMetadata(f"_hparams_/{tag}").plugin_data.content)

    values = content("session_start_info").session_start_info.hparams
    assert values["model.kl_weight"].number_value == 0.1
    assert values["data.suite"].string_value == "ComplexCartPole"
    assert values["model.hidden_sizes"].string_value == "[8]"
    assert [m.name.tag for m in content("experiment").experiment.metric_infos] == ["final/return_mean"]
    assert content("session_end_info").session_end_info.status
    final = json.loads((logged / "summary.json").read_text())["final"]["return_mean"]
    assert [(e.step, e.value) for e in found.Scalars("final/return_mean")] == [(480, pytest.approx(final))]


@pytest.mark.parametrize("name", ["logged", "resumed"])
def test_the_csv_table_holds_each_row_once(name: str, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(name)
    rows, beats = csv_rows(run), heartbeat(run)
    assert [int(row["step"]) for row in rows] == STEPS
    columns = [column for column in beats[0] if NAMES[column] in rows[0]]
    assert len(columns) > 20
    for column in columns:
        assert [row[NAMES[column]] and float(row[NAMES[column]]) for row in rows] == [
            beat[column] and pytest.approx(float(beat[column]), rel=1e-6) for beat in beats
        ]
    assert [bool(row["eval/return_mean"]) for row in rows] == [False, True] * 3  # a column that came later
    assert None not in rows[-1]
    assert yaml.safe_load((run / "csv" / "hparams.yaml").read_text())["model.gamma"] == 0.99


def test_all_files_are_in_the_run(logged: Path) -> None:
    assert {path.name for path in logged.parents[1].iterdir()} == {"e"}
    assert {"csv", "tensorboard", "wandb"} <= {path.name for path in logged.iterdir()}


def test_loggers_may_change_when_a_run_goes_on(logged: Path, tmp_path: Path) -> None:
    run = shutil.copytree(logged, tmp_path / "seed_1", symlinks=True)
    assert main(["resume", str(run), "--data.total_env_steps", "640", "--logger", "csv", *UNDRAWN]) == 0
    assert [int(row["step"]) for row in csv_rows(run)] == [*STEPS, 560, 640]
    assert len(read_offline(run)) == 1
    assert yaml.safe_load((run / "config.yaml").read_text())["logger"] == ["csv"]


def test_lightnings_own_loggers_come_on_top(tmp_path: Path) -> None:
    config = tmp_path / "own.yaml"
    own = {"class_path": "CSVLogger", "init_args": {"save_dir": str(tmp_path / "logs" / "e" / "seed_1")}}
    config.write_text(yaml.safe_dump({"logger": ["csv"], "trainer": {"logger": own}}))
    assert main(["fit", *SMALL, *UNDRAWN, "--config", str(config), "--logs_dir", str(tmp_path / "logs")]) == 0
    run = tmp_path / "logs" / "e" / "seed_1"
    with (run / "lightning_logs" / "version_0" / "metrics.csv").open(newline="") as table:
        assert [int(row["step"]) for row in csv.DictReader(table)] == STEPS
    assert [int(row["step"]) for row in csv_rows(run)] == STEPS
