"""Lightning's own way: a plain Trainer with Lightning's own callbacks, told of what the run knows."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from helpers import fit
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from varshare_pl.callbacks.evaluation import Evaluation
from varshare_pl.checkpoints import read_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")
LONG = {"total_env_steps": 8 * 128}


class Watch(pl.Callback):
    """The metrics of each rollout."""

    def __init__(self) -> None:
        self.rollouts: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.rollouts.append(dict(outputs["record"].metrics))


class Looks(EarlyStopping):
    """After which env steps early stopping looks."""

    def __init__(self) -> None:
        super().__init__("loss/total", patience=99)
        self.at: list[int] = []

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        super().on_validation_end(trainer, pl_module)
        self.at.append(pl_module.env_steps)


def test_callback_metrics_hold_the_newest_value_of_every_column() -> None:
    watch, looks = Watch(), Looks()
    run = fit(LONG, [watch, looks])
    told = run.trainer.callback_metrics
    newest = {name: value for metrics in watch.rollouts for name, value in metrics.items() if value == value}
    assert {name: float(value) for name, value in told.items()} == pytest.approx(newest, rel=1e-6)
    assert {"train/return_mean", "loss/total", "sharing/ratio"} <= set(told)
    assert run.trainer.global_step == run.module.gradient_steps == 8 * 4
    assert looks.at == [128 * (k + 1) for k in range(8)]  # nothing evaluates


def test_lightnings_monitors_look_where_the_run_evaluates() -> None:
    watch, looks = Watch(), Looks()
    fit(LONG, [Evaluation(every=300, episodes=1), watch, looks])
    evaluated = [128 * (k + 1) for k, metrics in enumerate(watch.rollouts) if "eval/return_mean" in metrics]
    assert looks.at == evaluated == [384, 640, 1024]


def test_the_trainers_defaults_end_after_the_datas_length() -> None:
    run = fit(trainer={"max_epochs": 1000})
    assert run.module.env_steps == 384
    assert [record.env_steps for record in run.records] == [128, 256, 384]


@pytest.mark.parametrize("monitor", ["eval/return_mean", "train/return_mean", "loss/total"])
def test_early_stopping_stops(monitor: str) -> None:
    stop = EarlyStopping(monitor, mode="max", patience=2, min_delta=1e9)  # nothing is ever so much better
    run = fit(LONG, [Evaluation(every=128, episodes=1), stop])
    assert run.module.env_steps == 3 * 128  # the first, and two without improvement
    assert stop.wait_count == 2


def test_early_stopping_counts_rollouts_where_nothing_evaluates() -> None:
    run = fit(LONG, [EarlyStopping("train/return_mean", mode="max", patience=1, min_delta=1e9)])
    assert run.module.env_steps == 2 * 128


def test_early_stopping_goes_on_while_it_improves() -> None:
    run = fit(LONG, [Evaluation(every=128, episodes=1), EarlyStopping("gradient_steps", mode="max", patience=1)])
    assert run.module.env_steps == 8 * 128


@pytest.mark.parametrize("monitor", ["eval/return_mean", "loss/total"])
def test_model_checkpoint_keeps_the_best(tmp_path: Path, monitor: str) -> None:
    keep, watch = ModelCheckpoint(tmp_path, "best", monitor=monitor, mode="max"), Watch()
    settings = {"enable_checkpointing": True, "default_root_dir": tmp_path}
    fit(LONG, [Evaluation(every=128, episodes=2), watch, keep], settings)
    values = torch.tensor([metrics[monitor] for metrics in watch.rollouts])
    best = int(values.argmax())
    assert read_checkpoint(Path(keep.best_model_path))["varshare"]["env_steps"] == 128 * (best + 1)
    assert float(keep.best_model_score) == pytest.approx(float(values[best]))


def test_model_checkpoint_by_gradient_steps_sees_the_values_of_its_weights(tmp_path: Path) -> None:
    name = "{env_steps}-{gradient_steps:.0f}"
    keep = ModelCheckpoint(tmp_path, name, monitor="gradient_steps", mode="max", every_n_train_steps=8, save_top_k=-1)
    fit(LONG, [keep], {"enable_checkpointing": True, "default_root_dir": tmp_path})
    found = {path.stem.rpartition("=")[2]: read_checkpoint(path)["varshare"] for path in tmp_path.glob("*.ckpt")}
    assert {int(told): state["gradient_steps"] for told, state in found.items()} == {8 * k: 8 * k for k in (1, 2, 3, 4)}


def test_a_wrong_name_ends_in_lightnings_own_error(tmp_path: Path) -> None:
    evaluation = Evaluation(every=128, episodes=1)
    with pytest.raises(RuntimeError, match=r"`eval/retrun` which is not available.*`eval/return_mean`"):
        fit(LONG, [evaluation, EarlyStopping("eval/retrun")])
    settings = {"enable_checkpointing": True, "default_root_dir": tmp_path}
    with pytest.raises(MisconfigurationException, match=r"could not find the monitored key.*'eval/return_mean'"):
        fit(LONG, [evaluation, ModelCheckpoint(tmp_path, monitor="eval/retrun")], settings)
