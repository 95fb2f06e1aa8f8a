"""A policy that never ends an episode: evaluations cut it, and a signal in one ends the run as between rollouts."""

import importlib
import json
import signal
from pathlib import Path

import pytest
from test_exact_resume import SMALL, assert_same, state

from varshare_pl.checkpoints import read_checkpoint
from varshare_pl.cli.main import main

HERE = Path(__file__).parent
LIMIT = ["--evaluation.max_episode_steps", "120"]


def fit(logs: Path, expected: int, *options: str, **env: int) -> Path:
    """A run with an evaluation of two endless episodes every two rollouts, three in all; gives its folder."""
    suite = [{"id": "endless:Endless-v0", "kwargs": env}]
    sizes = ["--data.num_envs", "4", "--data.rollout_steps", "16", "--data.total_env_steps", "384"]
    model = ["--model.minibatch_size", "32", "--evaluation.every", "128", *LIMIT, "--logs_dir", str(logs)]
    assert main(["fit", *SMALL, "--data.suite", json.dumps(suite), *sizes, *model, *options]) == expected
    return logs / "x" / "seed_1"


@pytest.fixture(autouse=True)
def _envs_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setattr(importlib.import_module("endless").Endless, "long", 0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody stops."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        return fit(tmp_path_factory.mktemp("whole"), 0)


def test_the_cut_is_told_and_counted(whole: Path) -> None:
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["final"]["cut_per_task"] == [2]
    assert summary["final"]["return_per_task"] == [120.0]
    rows = [line for line in (whole / "diagnostics.csv").read_text().splitlines() if ",eval/cut," in line]
    assert rows == [f"{steps},eval/cut,,,0,2" for steps in (128, 256, 384)]


@pytest.mark.parametrize(("number", "evaluation"), [(signal.SIGTERM, 1), (signal.SIGINT, 2), (signal.SIGTERM, 3)])
def test_one_signal_in_an_evaluation_ends_the_run_which_goes_on_exactly(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    whole: Path,
    number: signal.Signals,
    evaluation: int,
) -> None:
    run = fit(tmp_path, 128 + number, number=int(number), evaluation=evaluation)
    err = capsys.readouterr().err
    assert f"varshare: stopped by {number.name}; go on with: varshare resume {run}" in err
    lines = (run / "heartbeat.csv").read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == [str(64 * k) for k in range(1, 2 * evaluation + 1)]
    assert not (run / "summary.json").exists()

    monkeypatch.setattr(importlib.import_module("endless").Endless, "long", 100)
    assert main(["resume", str(run)]) == 0
    found, expected = state(run), state(whole)
    for name in ("heartbeat", "diagnostics", "final"):  # the checkpoint holds the config, which differs
        assert_same(expected[name], found[name])
    assert (run / "checkpoints" / "best.ckpt").exists()


def test_early_stopping_counts_an_evaluation_that_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"monitor": "eval/return_mean", "mode": "max", "patience": 9}
    callback = {"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": options}
    callbacks = ["--trainer.callbacks", json.dumps([callback])]
    run = fit(tmp_path, 128 + signal.SIGTERM, *callbacks, number=int(signal.SIGTERM), evaluation=2)
    monkeypatch.setattr(importlib.import_module("endless").Endless, "long", 100)
    assert main(["resume", str(run)]) == 0
    callbacks_then = read_checkpoint(run / "checkpoints" / "last.ckpt")["callbacks"]
    (counted,) = (state for name, state in callbacks_then.items() if name.startswith("EarlyStopping"))
    assert (float(counted["best_score"]), counted["wait_count"]) == (120.0, 2)  # of three evaluations alike


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_ends_validate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], whole: Path, number: signal.Signals
) -> None:
    monkeypatch.setattr(importlib.import_module("endless").Endless, "always", int(number))
    config, weights = str(whole / "config.yaml"), str(whole / "checkpoints" / "last.ckpt")
    args = ["validate", "--config", config, "--ckpt_path", weights]
    capsys.readouterr()
    assert main(args) == 128 + number
    out, err = capsys.readouterr()
    assert err.splitlines()[-1] == f"varshare: stopped by {number.name}"
    assert out == ""
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_validate_tells_of_the_cut(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, weights = str(whole / "config.yaml"), str(whole / "checkpoints" / "last.ckpt")
    assert main(["validate", "--config", config, "--ckpt_path", weights, "--evaluation.max_episode_steps", "9"]) == 0
    note = "cut: 2 of 2 episodes, at evaluation.max_episode_steps = 9; they count with their return up to there\n"
    assert capsys.readouterr().out.endswith(note)


def test_play_cuts_and_tells(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["play", str(whole), "--output", str(tmp_path / "a.gif"), "--max_steps", "5", "--episodes", "2"]
    capsys.readouterr()
    assert main(args) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'a.gif'}\ncut: 2 of 2 episodes, at --max_steps 5\n"
    assert main([*args[:5], "0"]) == 2
    assert "--max_steps: 0 is not allowed; a positive integer is" in capsys.readouterr().err


def with_a_new_task(logs: Path, weights: Path, expected: int) -> Path:
    """A run from weights of one task with a second one, which begins with the zero-shot evaluation of both."""
    suite = [{"id": "endless:Endless-v0", "kwargs": {}}, {"id": "endless:Endless-v0", "name": "new"}]
    args = ["--data.suite", json.dumps(suite), "--data.num_envs", "4", "--data.rollout_steps", "16", *LIMIT]
    args += ["--data.total_env_steps", "128", "--model.minibatch_size", "32", "--evaluation.every", "0"]
    assert main(["fit", *SMALL, *args, "--init_from", str(weights), "--logs_dir", str(logs)]) == expected
    return logs / "x" / "seed_1"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_ends_the_zero_shot_evaluation_which_is_made_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    whole: Path,
    number: signal.Signals,
) -> None:
    weights, endless = whole / "checkpoints" / "last.ckpt", importlib.import_module("endless").Endless
    monkeypatch.setattr(endless, "always", int(number))
    run = with_a_new_task(tmp_path / "stopped", weights, 128 + number)
    out, err = capsys.readouterr()
    assert f"varshare: stopped by {number.name}; go on with: varshare resume {run}" in err
    assert "zero-shot" not in out
    assert not (run / "summary.json").exists()
    assert endless.long == 4  # the first episodes' last steps, and then no training and no other evaluation

    monkeypatch.setattr(endless, "always", 0)
    expected = with_a_new_task(tmp_path / "whole", weights, 0)
    capsys.readouterr()
    assert main(["resume", str(run)]) == 0
    assert capsys.readouterr().out.startswith("zero-shot, before any training with the new tasks:\n")
    for name, value in state(expected).items():
        assert_same(value, state(run)[name])
    zero_shot = [json.loads((each / "summary.json").read_text())["zero_shot"] for each in (run, expected)]
    assert zero_shot[0] == zero_shot[1]
    assert zero_shot[0]["return_per_task"] == [120.0, 120.0]
