"""Callbacks only observe: with and without them a run ends with the same bits."""

import sys

import pytest
import torch
from helpers import fit
from lightning.pytorch.loggers import CSVLogger

from varshare_pl.callbacks.checkpoint import Checkpoint
from varshare_pl.callbacks.evaluation import Evaluation
from varshare_pl.callbacks.heartbeat import Heartbeat
from varshare_pl.callbacks.loggers import MetricsToLoggers
from varshare_pl.callbacks.plots import Plots
from varshare_pl.callbacks.progress import ProgressLine

CALLBACKS = {
    "evaluation": lambda: [Evaluation(every=1, episodes=2)],
    "heartbeat": lambda: [Heartbeat()],
    "plots": lambda: [Heartbeat(), Plots()],
    "checkpoint": lambda: [Checkpoint(every=1)],
    "progress": lambda: [ProgressLine()],
    "loggers": lambda: [MetricsToLoggers()],
    "all": lambda: [
        Evaluation(every=1, episodes=2),
        *(Heartbeat(), MetricsToLoggers(), Plots(), ProgressLine(), Checkpoint(every=1)),
    ],
}


@pytest.fixture(scope="module")
def bare():
    return fit()


@pytest.mark.parametrize("name", CALLBACKS)
def test_final_weights_are_bit_identical(bare, name, tmp_path, monkeypatch, request):
    if name == "all":
        request.getfixturevalue("drawn")  # "plots" has real ones
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)  # else the progress line does nothing
    settings = {"default_root_dir": tmp_path, "enable_checkpointing": name in ("checkpoint", "all")}
    if name in ("loggers", "all"):
        settings |= {"logger": CSVLogger(tmp_path / "csv"), "log_every_n_steps": 1}
    run = fit(callbacks=CALLBACKS[name](), trainer=settings)
    state, expected = run.module.state_dict(), bare.module.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) or state[key].isnan().any() for key in state)
    traces = {
        "heartbeat": "heartbeat.csv",
        "plots": "plots",
        "checkpoint": "checkpoints/last.ckpt",
        "loggers": "csv",
        "all": "checkpoints/best.ckpt",
    }
    if name in traces:  # it did its work
        assert (tmp_path / traces[name]).exists()
    if name in ("evaluation", "all"):
        assert all("eval/return_mean" in record.metrics for record in run.records)


def test_the_global_generators_are_neither_read_nor_needed(bare):
    torch.manual_seed(12345)
    state = fit().module.policy.state_dict()
    assert all(torch.equal(state[key], value) for key, value in bare.module.policy.state_dict().items())
