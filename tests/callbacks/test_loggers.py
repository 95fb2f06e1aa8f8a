import csv

import pytest
import yaml
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from recording import record_run

from varshare_pl.callbacks.loggers import MetricsToLoggers


def test_a_csv_logger_gets_all_values_at_env_steps(tmp_path):
    record_run(
        tmp_path, [MetricsToLoggers(level="all")], rollouts=3, logger=CSVLogger(tmp_path, name="csv", version="v")
    )
    with (tmp_path / "csv" / "v" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["256", "512", "768"]
    assert float(rows[0]["sharing/ratio"]) == 0.97
    assert float(rows[0]["sharing/ratio/actor/layer_1/task 1"]) == 0.91
    assert rows[0]["train/return/task 1"] == ""
    assert "kl/policy" not in rows[0]  # never had a value


def test_tensorboard_has_env_steps_on_its_x_axis(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    record_run(
        tmp_path,
        [MetricsToLoggers(level="all")],
        rollouts=2,
        logger=TensorBoardLogger(tmp_path, name="tb", version="v"),
    )
    events = EventAccumulator(str(tmp_path / "tb" / "v")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/return_mean")] == [(256, 20.0), (512, 40.0)]
    assert [e.step for e in events.Scalars("sharing/energy/critic/head")] == [256, 512]


def test_every_logger_is_called_once_per_rollout(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(CSVLogger, "log_metrics", lambda self, metrics, step: calls.append((self.name, step, metrics)))
    loggers = [CSVLogger(tmp_path, name="a"), CSVLogger(tmp_path, name="b")]
    record_run(tmp_path, [MetricsToLoggers()], rollouts=2, logger=loggers)
    assert [call[:2] for call in calls] == [("a", 256), ("b", 256), ("a", 512), ("b", 512)]
    assert calls[0][2] is not calls[1][2]  # a logger that changes what it gets does not disturb the next


def test_no_logger_nothing_to_do(tmp_path):
    record_run(tmp_path, [MetricsToLoggers()], rollouts=1)
    assert list(tmp_path.iterdir()) == []


def test_own_and_deferred_loggers_are_opened_when_the_fit_starts(tmp_path):
    callback = MetricsToLoggers(["csv"])
    callback.deferred = [CSVLogger(tmp_path, name="users", version="v")]
    (tmp_path / "config.yaml").write_text("model: {gamma: 0.9, sharing: {}}\nlogger: [csv]\n")
    record_run(tmp_path, [callback], rollouts=2)
    for folder in (tmp_path / "csv", tmp_path / "users" / "v"):
        with (folder / "metrics.csv").open(newline="") as file:
            assert [row["step"] for row in csv.DictReader(file)] == ["256", "512"]
        params = yaml.safe_load((folder / "hparams.yaml").read_text())
        assert params == {"model.gamma": 0.9, "model.sharing": {}, "logger": ["csv"]}


def test_a_logger_that_fails_is_left_out_and_the_run_goes_on(tmp_path, monkeypatch):
    calls = []

    def fail(self, metrics, step):
        calls.append(step)
        raise OSError("no space\nleft")

    broken = CSVLogger(tmp_path, name="broken")
    monkeypatch.setattr(broken, "log_metrics", fail.__get__(broken))
    with pytest.warns(UserWarning, match="CSVLogger is left out from here: OSError: no space left"):
        record_run(tmp_path, [MetricsToLoggers()], rollouts=3, logger=[broken, CSVLogger(tmp_path, name="whole")])
    assert calls == [256]
    with (tmp_path / "whole" / "version_0" / "metrics.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 3
