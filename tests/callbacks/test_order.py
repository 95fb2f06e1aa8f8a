"""The order of callbacks changes nothing: none writes what another one reads."""

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import fit
from lightning.pytorch.loggers import CSVLogger

import varshare_pl.ppo.module
import varshare_pl.rollout.collector
from varshare_pl.callbacks.checkpoint import Checkpoint
from varshare_pl.callbacks.evaluation import Evaluation
from varshare_pl.callbacks.heartbeat import Heartbeat
from varshare_pl.callbacks.loggers import MetricsToLoggers
from varshare_pl.checkpoints import read_checkpoint
from varshare_pl.ppo.module import PPOModule


class WithNewTasks(PPOModule):
    """Begins as from the weights of a run without its second task: with a zero-shot evaluation."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.warm_start = SimpleNamespace(new_tasks=(1,), optimizer=None)


def written(folder: Path, callbacks: list[Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a run writes, on a clock that ticks once each time it is read."""
    for module in (varshare_pl.ppo.module, varshare_pl.rollout.collector):
        clock = itertools.count()
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda clock=clock: float(next(clock))))
    trainer = {"default_root_dir": folder, "enable_checkpointing": True, "log_every_n_steps": 1}
    fit(callbacks=callbacks, trainer=trainer | {"logger": CSVLogger(folder, "csv", "")}, module_class=WithNewTasks)
    files = {name: (folder / name).read_bytes() for name in ("heartbeat.csv", "diagnostics.csv", "csv/metrics.csv")}
    best = read_checkpoint(folder / "checkpoints" / "best.ckpt")
    return files | {"best": best["varshare"]["env_steps"], "evaluation": best["callbacks"]["Evaluation"]}


def test_two_orders_of_callbacks_write_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found, printed = [], []
    for order in (1, -1):
        callbacks = [Evaluation(every=128, episodes=2), Heartbeat(), MetricsToLoggers(), Checkpoint(every=1)]
        found.append(written(tmp_path / str(order), callbacks[::order], monkeypatch))
        printed.append(capsys.readouterr().out)
    assert found[0] == found[1]
    assert printed[0] == printed[1]
    rows = found[0]["heartbeat.csv"].decode().splitlines()
    column = rows[0].split(",").index("eval/return_mean")
    assert [row.split(",")[0] for row in rows[1:]] == ["0", "128", "256", "384"]
    assert all(row.split(",")[column] for row in rows[1:])
    assert "zero-shot" in printed[0]
