"""Every option of Lightning's Trainer works or is refused: none is accepted and then does nothing."""

import inspect
from pathlib import Path

import pytest
from lightning.pytorch import Trainer

from varshare_pl.cli.checks import REFUSED_TRAINER_OPTIONS, TRAINER_DEFAULTS
from varshare_pl.cli.main import main

TINY = [
    "--data.total_env_steps",
    "320",
    "--data.rollout_steps",
    "16",
    "--data.num_envs",
    "10",
    "--plots.enabled",
    "false",
]
TINY += ["--model.minibatch_size", "80", "--evaluation.episodes", "1", "--experiment", "x"]

# Option: a value that is not the default.
WORKS = {
    "accelerator": "auto",
    "devices": "1",
    "strategy": "auto",
    "num_nodes": "1",
    "precision": "bf16-mixed",
    "profiler": "simple",
    "detect_anomaly": "true",
    "deterministic": "true",
    "benchmark": "true",
    "inference_mode": "false",
    "enable_progress_bar": "true",
    "enable_model_summary": "true",
    "enable_autolog_hparams": "false",
    "callbacks": '[{"class_path": "lightning.pytorch.callbacks.LearningRateMonitor"}]',
    "plugins": "null",
    "logger": '[{"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "somewhere"}}]',
}


def test_every_option_is_known() -> None:
    options = set(inspect.signature(Trainer).parameters)
    assert options == WORKS.keys() | REFUSED_TRAINER_OPTIONS.keys()
    assert not WORKS.keys() & REFUSED_TRAINER_OPTIONS.keys()
    assert TRAINER_DEFAULTS.keys() <= WORKS.keys()


@pytest.mark.filterwarnings("ignore::UserWarning:lightning")
@pytest.mark.filterwarnings("ignore:.*anomaly.*:UserWarning")
@pytest.mark.parametrize("option", WORKS)
def test_it_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    monkeypatch.chdir(tmp_path)
    extra = ["--logger", "csv"] if option == "callbacks" else []  # a learning rate monitor wants a logger
    assert main(["fit", *TINY, *extra, f"--trainer.{option}", WORKS[option]]) == 0
    run = tmp_path / "logs" / "x" / "seed_1"
    assert (run / "heartbeat.csv").read_text().count("\n") == 3
    if option == "logger":
        assert list((tmp_path / "somewhere").rglob("metrics.csv"))


@pytest.mark.parametrize("option", REFUSED_TRAINER_OPTIONS)
def test_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *TINY, f"--trainer.{option}", "1"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"varshare: error: trainer.{option}: not allowed; ")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
