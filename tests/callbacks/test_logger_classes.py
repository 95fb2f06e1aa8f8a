"""The option ``--logger``: its forms, W&B's account, and what loggers do with odd input."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import wandb
from wandb_records import read_offline

import varshare_pl.callbacks.logger_classes as loggers_module
from varshare_pl.callbacks.logger_classes import Csv, Wandb, log_images, logger_names
from varshare_pl.cli.main import main
from varshare_pl.errors import ConfigError

SMALL = ["--data.num_envs", "5", "--data.rollout_steps", "16", "--data.total_env_steps", "80", "--experiment", "e"]
SMALL += ["--model.minibatch_size", "40", "--model.hidden_sizes", "[8]", "--evaluation.episodes", "2"]


def test_without_a_key_wandb_is_offline_and_asks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert main(["fit", *SMALL, "--logs_dir", str(tmp_path), "--logger", "wandb", "--plots.enabled", "false"]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "wandb" in line]
    where = tmp_path / "e" / "seed_1" / "wandb" / "offline-run-*"
    assert told == [f"wandb: no key found, logging offline; upload it with: wandb sync {where}"]
    assert len(read_offline(tmp_path / "e" / "seed_1")) == 1


def test_a_key_is_found_where_wandb_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert loggers_module._no_account()
    for host in ("api.wandb.ai", urlsplit(wandb.Settings().base_url).netloc):
        (tmp_path / "netrc").write_text(f"machine {host} login user password made-up\n")
        assert not loggers_module._no_account()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert loggers_module._no_account()
    monkeypatch.setenv("WANDB_API_KEY", "made-up")
    assert not loggers_module._no_account()


def test_a_server_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    account = {"WANDB_MODE": "online", "WANDB_API_KEY": 40 * "a", "WANDB_BASE_URL": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "varshare_pl", "fit", *SMALL, "--logs_dir", str(tmp_path), "--logger", "wandb"]
    done = subprocess.run(
        command,
        env={**os.environ, **account, "WANDB_INIT_TIMEOUT": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("varshare: error: wandb: ")
    assert "WANDB_MODE=offline" in line


@pytest.mark.parametrize("value", ["tensorbord", "csv,wandbb", "[csv, aim]"])
def test_an_unknown_logger_is_told_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    assert main(["fit", *SMALL, "--logs_dir", str(tmp_path / "logs"), "--logger", value]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    wrong = value.strip("[]").split(",")[-1].strip()
    assert line == (
        f"varshare: error: logger: {wrong} is not allowed; wandb, tensorboard, csv, several with commas, or null is; "
        "trainer.logger takes others by class path"
    )
    assert list(tmp_path.iterdir()) == []


OWN_LOGGERS = """
from lightning.pytorch.loggers import CSVLogger

class Fine(CSVLogger):
    def __init__(self) -> None:
        super().__init__("own")

class Lacking(CSVLogger):
    def __init__(self) -> None:
        raise ModuleNotFoundError("Requirement 'tracker>=1.0' not met. HINT: Try running `pip install tracker`")
"""


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (
            "own_loggers.Lacking",
            "trainer.logger: own_loggers.Lacking cannot be used: Requirement 'tracker>=1.0' not met.",
        ),
        (
            "no_such_tracker.Logger",
            "trainer.logger: no_such_tracker.Logger cannot be used: No module named 'no_such_tracker'",
        ),
        ("CSVLogger", "trainer.logger.init_args.save_dir: a value is missing"),
        ("{class_path: CSVLogger, init_args: {dir: x}}", "trainer.logger.init_args.dir: not an option of this class"),
    ],
)
def test_a_logger_by_class_path_that_cannot_be_used_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_loggers.py").write_text(OWN_LOGGERS)
    assert main(["fit", *SMALL, "--trainer.logger", value]) == 2
    assert capsys.readouterr().err.splitlines() == [f"varshare: error: {told}"]
    assert not (tmp_path / "logs").exists()


def test_a_logger_by_class_path_gets_what_the_others_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_loggers.py").write_text(OWN_LOGGERS)
    args = [
        "--trainer.logger",
        "own_loggers.Fine",
        "--logger",
        "csv",
        "--logger_detail",
        "means",
        "--plots.enabled",
        "false",
    ]
    assert main(["fit", *SMALL, *args]) == 0
    (own,) = (tmp_path / "own").rglob("metrics.csv")
    assert own.read_text() == (tmp_path / "logs" / "e" / "seed_1" / "csv" / "metrics.csv").read_text()
    header = own.read_text().splitlines()[0].split(",")
    assert "eval/return_mean" in header
    assert not [name for name in header if name.startswith("eval/return/")]


def test_a_logger_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loggers_module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'tensorboard is not installed; pip install "varshare-pl\[tensorboard\]"$'):
        logger_names("csv,tensorboard")
    assert logger_names("csv") == ["csv"]


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (None, []),
        ("csv", ["csv"]),
        ("wandb, csv", ["wandb", "csv"]),
        (["wandb", "csv"], ["wandb", "csv"]),
        (["csv,wandb", "csv"], ["csv", "wandb"]),
    ],
)
def test_forms_of_the_option(value: Any, names: list[str]) -> None:
    assert logger_names(value) == names


def test_wandb_takes_values_of_a_callback_that_counts_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "run.json").write_text(json.dumps({"experiment": "e", "seed": 1}))
    logger = Wandb(tmp_path, 0)
    logger.log_metrics({"a": 1.0}, step=80)
    logger.log_metrics({"lr": 0.5}, step=1)
    logger.log_metrics({"a": 2.0}, step=160)
    logger.finalize("failed")
    (part,) = read_offline(tmp_path)
    rows = [{key: row[key] for key in ("env_steps", "a", "lr") if key in row} for row in part.history]
    assert rows == [{"env_steps": 80, "a": 1.0, "lr": 0.5}, {"env_steps": 160, "a": 2.0}]
    assert part.exit_code == 1
    assert wandb.run is None


def test_a_csv_table_cut_off_in_its_header_starts_anew(tmp_path: Path) -> None:
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "metrics.csv").write_text("loss,st")
    table = Csv(tmp_path, 0)
    table.log_metrics({"loss": 1.5}, step=80)
    with (tmp_path / "csv" / "metrics.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [{"loss": "1.5", "step": "80"}]


def test_a_logger_without_images_gets_none(tmp_path: Path) -> None:
    log_images(Csv(tmp_path, 0), [tmp_path / "none.png"], 80)
    assert list(tmp_path.iterdir()) == []
