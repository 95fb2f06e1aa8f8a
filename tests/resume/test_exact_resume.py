"""``varshare resume`` ends with the bits of a run that was never stopped."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ACCELERATOR, NEEDS_GPU

from varshare_pl.callbacks import checkpoint as checkpoint_module
from varshare_pl.cli.main import main

TIMING = {"wall_time_s", "sps"}
SMALL = ["--config", "complex_cartpole", "--data.rollout_steps", "16", "--model.hidden_sizes", "[16,16]"]
SMALL += ["--evaluation.episodes", "2", "--plots.enabled", "false", "--model.diagnostics_every", "2"]
SMALL += ["--checkpoint.every", "1", "--experiment", "x", "--model.update_epochs", "2"]


def fit(logs: Path, *options: str, envs: int = 10, rollouts: int = 6, every: int = 2) -> Path:
    """A run of a few rollouts; gives its folder."""
    rows = envs * 16
    sizes = ["--data.num_envs", str(envs), "--data.total_env_steps", str(rollouts * rows)]
    sizes += ["--model.minibatch_size", str(rows // 4), "--evaluation.every", str(every * rows)]
    assert main(["fit", *SMALL, *sizes, *options, "--logs_dir", str(logs)]) == 0
    return logs / "x" / "seed_1"


def keep_copies(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have the run's folder copied after each ``last.ckpt``, as a kill would leave it."""
    save = checkpoint_module.save

    def keep(trainer: Any, name: str) -> None:
        save(trainer, name)
        if name == checkpoint_module.LAST:
            shutil.copytree(
                trainer.default_root_dir, folder / f"{trainer.lightning_module.env_steps:06d}", dirs_exist_ok=True
            )

    patch.setattr(checkpoint_module, "save", keep)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with a copy of the run for each of its checkpoints."""
    keep_copies(monkeypatch, tmp_path / "kept")
    return tmp_path / "kept"


def state(run: Path) -> dict[str, Any]:
    """All that must be the same: the last checkpoint without times, the tables without times, the final evaluation."""
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    content["varshare"].pop("wall_time_s")
    lines = content["varshare_config"].splitlines()
    content["varshare_config"] = [line for line in lines if not line.startswith("logs_dir:")]  # runs differ in place
    with (run / "heartbeat.csv").open() as table:
        rows = [{k: v for k, v in row.items() if k not in TIMING} for row in csv.DictReader(table)]
    summary = (run / "summary.json").read_text().partition('"final"')[2]
    return {
        "checkpoint": content,
        "heartbeat": rows,
        "diagnostics": (run / "diagnostics.csv").read_text(),
        "final": summary,
    }


def assert_same(a: Any, b: Any, where: str = "") -> None:
    if isinstance(a, torch.Tensor):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True, msg=where)
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}/{i}")
    else:
        assert a == b, where


@pytest.mark.parametrize(
    ("options", "envs"),
    [
        (["--model.sharing", "varshare"], 10),
        (["--model.sharing", "varshare", "--data.backend", "sync"], 3),
        (
            [
                "--model.sharing",
                "varshare",
                "--data.num_workers",
                "2",
                "--data.backend",
                "workers",
                "--model.actor_noise",
                "mean",
            ],
            5,
        ),
        (["--model.sharing", "varshare", "--model.actor_noise", "fresh", "--model.anneal_lr", "false"], 3),
        (["--model.sharing", "shared", "--data.backend", "sync"], 10),
        (["--model.sharing", "shared_onehot"], 8),
        (["--data.suite", '["CartPole-v1","CartPole-v1"]'], 3),  # another package's env; three on two tasks change them
        (["--model.sharing", "independent", "--model.anneal_lr", "false"], 5),
        (["--data.backend", "torch", "--model.critic_noise", "weights"], 5),
        (["--model.actor_noise", "stored"], 3),
        (["--model.normalize_rewards", "task", "--model.normalize_returns", "task", "--model.popart", "true"], 3),
        pytest.param(["--model.compile", "true"], 10, marks=pytest.mark.slow(seconds=200)),
        pytest.param(["--trainer.accelerator", ACCELERATOR], 10, marks=NEEDS_GPU),
    ],
    ids=lambda value: "-".join(value[1::2]) if isinstance(value, list) else str(value),
)
@pytest.mark.filterwarnings("ignore:model.actor_noise=fresh")
def test_resume_at_any_checkpoint(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], envs: int
) -> None:
    monkeypatch.setenv("VARSHARE_CACHE", str(tmp_path / "cache"))
    whole = state(fit(tmp_path, *options, envs=envs))
    stops = sorted(kept.iterdir())[:-1]
    assert len(stops) == 5
    for stopped in (stops[0], stops[3]):  # without an evaluation so far, and with two
        (stopped / "summary.json").unlink(missing_ok=True)
        assert main(["resume", str(stopped)]) == 0
        assert_same(whole, state(stopped), stopped.name)


def test_a_row_after_the_checkpoint_is_cut(whole: dict[str, Any], stops: list[Path]) -> None:
    """A kill between the row and the checkpoint of a rollout leaves a row too many, or half of one."""
    early, late = stops[1], stops[3]
    for name in ("heartbeat.csv", "diagnostics.csv"):
        (early / name).write_bytes((late / name).read_bytes()[:-7])
    assert main(["resume", str(early)]) == 0
    assert_same(whole, state(early))


def test_fit_with_ckpt_path_last_is_resume(tmp_path: Path, whole: dict[str, Any], stops: list[Path]) -> None:
    run = Path(shutil.copytree(stops[2], tmp_path / "x" / "seed_1"))
    fit(tmp_path, "--ckpt_path", "last")
    assert_same(whole, state(run))


def test_resume_before_the_first_checkpoint_starts_again(
    whole: dict[str, Any], stops: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = stops[0]
    shutil.rmtree(stopped / "checkpoints")
    assert main(["resume", str(stopped)]) == 0
    assert "no checkpoint yet" in capsys.readouterr().err
    assert_same(whole, state(stopped))


def test_extending_a_finished_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = fit(tmp_path, rollouts=4)
    assert main(["resume", str(run)]) == 2
    assert "finished after 640 env steps" in capsys.readouterr().err
    assert main(["resume", str(run), "--data.total_env_steps", "960"]) == 0
    with (run / "heartbeat.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [int(row["env_steps"]) for row in rows] == [160 * i for i in range(1, 7)]
    text = (run / "summary.json").read_text()
    assert '"extended": true' in text
    rates = [
        line.split(",")
        for line in (run / "diagnostics.csv").read_text().splitlines()
        if "diagnostics/lr,actor," in line
    ]
    # Annealed to 0 over the length that the run had at the time.
    expected = [1 - i / 4 for i in range(4)] + [1 - i / 6 for i in (4, 5)]
    assert [float(row[-1]) for row in rates] == pytest.approx([5e-3 * share for share in expected])
    assert "total_env_steps: 960" in (run / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("option", "value", "old"),
    [
        ("model.kl_weight", "0.5", "0.1"),
        ("data.suite", "IdenticalCartPole", "ComplexCartPole"),
        ("model.hidden_sizes", "[8,8]", "[16, 16]"),
        ("data.num_envs", "20", "10"),
        ("evaluation.every", "77", "320"),
        ("seed_everything", "2", "1"),
    ],
)
def test_what_would_make_another_run_is_refused(
    stops: list[Path], capsys: pytest.CaptureFixture[str], option: str, value: str, old: str
) -> None:
    stopped = stops[1]
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    assert main(["resume", str(stopped), f"--{option}", value]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith(f"varshare: error: {option}: ")
    assert old in error
    assert before == {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}


def test_the_method_cannot_change(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", str(finished), "--model.sharing", "shared", "--data.total_env_steps", "1600"]) == 2
    error = capsys.readouterr().err
    assert "model.sharing" in error
    assert error.count("\n") == 1


def test_init_from_takes_the_weights_alone(tmp_path: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = finished / "checkpoints" / "last.ckpt"
    tiny = ["--init_from", str(last), "--model.lr_actor", "1e-12", "--model.lr_critic", "1e-12"]
    second = fit(tmp_path / "b", *tiny, rollouts=1)
    before, after = (torch.load(f / "checkpoints" / "last.ckpt", weights_only=True) for f in (finished, second))
    for name, value in before["state_dict"].items():
        if name.startswith("policy."):
            torch.testing.assert_close(value, after["state_dict"][name], rtol=0, atol=1e-9)
    assert after["varshare"]["env_steps"] == 160
    assert (
        main(
            [
                "fit",
                *SMALL,
                "--model.sharing",
                "shared",
                "--init_from",
                str(last),
                "--logs_dir",
                str(tmp_path / "c"),
                "--model.minibatch_size",
                "64",
            ]
        )
        == 2
    )
    assert "the checkpoint has sharing varshare" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_a_run_may_be_shortened(stops: list[Path]) -> None:
    stopped = stops[1]
    assert main(["resume", str(stopped), "--data.total_env_steps", "800"]) == 0
    summary = json.loads((stopped / "summary.json").read_text())
    assert (summary["env_steps"], summary["finished"], summary["extended"]) == (800, True, False)
    assert summary["total_env_steps"] == [960, 800]


def test_the_newest_checkpoint_is_last_also_at_a_best_evaluation(tmp_path: Path) -> None:
    run = fit(tmp_path, "--checkpoint.every", "0", rollouts=3)
    names = {path.name: torch.load(path, weights_only=True)["varshare"]["env_steps"] for path in run.rglob("*.ckpt")}
    assert names["last.ckpt"] == 480
    assert names["best.ckpt"] in (320, 480)
    assert names["previous.ckpt"] == 320  # that of the first evaluation, the best until then


def test_any_number_of_workers_and_no_workers_go_on_with_each_others_runs(tmp_path: Path, kept: Path) -> None:
    """Evaluations too are the same in workers."""
    workers = ["--data.backend", "workers", "--data.num_workers"]
    whole = state(fit(tmp_path / "whole", envs=6))  # batched
    shutil.rmtree(kept)
    fit(tmp_path, *workers, "2", envs=6)
    for stopped, options in zip(
        sorted(kept.iterdir())[1:3], ([*workers, "3"], ["--data.backend", "batched"]), strict=True
    ):
        (stopped / "summary.json").unlink(missing_ok=True)
        nothing = ["--data.num_workers", "null"] if "batched" in options else []
        assert main(["resume", str(stopped), *options, *nothing]) == 0
        now = state(stopped)
        for name in ("heartbeat", "diagnostics", "final"):  # the checkpoint holds the options
            assert_same(whole[name], now[name], f"{stopped.name} {name}")
