"""The page on a GPU, tried on the CPU."""

import warnings

import pytest
import torch

from benchmarks import gpu
from benchmarks.__main__ import main


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_without_a_gpu_there_is_one_line(capsys):
    assert main(["gpu"]) == 2
    assert "no CUDA device" in capsys.readouterr().err


def test_a_run_that_cannot_be_is_told_and_fails_the_page(monkeypatch):
    monkeypatch.setattr(gpu, "_rows", lambda *_: iter([gpu._fit("wrong", "cpu", ["--config", "no_such_config"])]))
    text, good = gpu.page("cpu")
    assert not good
    assert "| one rollout and its update | wrong | " in text
    assert "no_such_config" in text.splitlines()[-1]


def test_rows_are_begun_until_the_time_is_over(monkeypatch):
    rows = [gpu.Row("fit", "first", "1.0 s"), gpu.Row("fit", "second", "1.0 s")]
    monkeypatch.setattr(gpu, "_rows", lambda *_: iter(rows))
    assert gpu.page("cpu", minutes=1)[1]
    text, good = gpu.page("cpu", minutes=0)
    assert not good
    assert "first" in text
    assert "second" not in text
    assert "not run: 0 minutes are over" in text


def test_a_run_and_its_speed_on_the_cpu(monkeypatch):
    monkeypatch.setattr(gpu, "WIDTHS", (8,))
    small = ["--config", "point_mass_dial", "--data.rollout_steps", "8", "--model.minibatch_size", "192"]
    fit = gpu._fit("dial", "cpu", small)
    assert fit.good, fit.result
    with warnings.catch_warnings(action="ignore"):  # Lightning's about data loaders
        first = next(gpu._speeds("cpu", 0.001))
    assert first.what == "shared, width 8, 5 envs, 32-true"
    assert float(first.result.partition(" ")[0].replace(",", "")) > 0
