"""What goes wrong ends in one line, keeps the last good checkpoint, and the run goes on from there."""

import csv
import errno
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from test_exact_resume import SMALL, assert_same, fit, state

from varshare_pl.callbacks import checkpoint as checkpoint_module
from varshare_pl.callbacks import heartbeat as heartbeat_module
from varshare_pl.cli.main import main
from varshare_pl.run_folder import lock

HERE = Path(__file__).parent


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("varshare: ")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    return lines[0]


def reset(run: Path) -> None:
    """Make a finished run one that was stopped before its last rollout."""
    (run / "summary.json").unlink()
    checkpoints = run / "checkpoints"
    shutil.copyfile(checkpoints / "previous.ckpt", checkpoints / "last.ckpt")


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_checkpoint_is_told_and_the_one_before_taken(
    finished: Path, whole: dict[str, Any], capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    run = finished
    last = run / "checkpoints" / "last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 16
    last.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    capsys.readouterr()
    assert main(["resume", str(run)]) == 0
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "last.ckpt is not a checkpoint, or is damaged" in err
    assert "going on from" in err
    assert_same(whole, state(run))


@pytest.mark.parametrize("checkpoints", ["both", "last only"])
def test_a_kill_between_the_last_checkpoint_and_the_summary(
    finished: Path, whole: dict[str, Any], checkpoints: str
) -> None:
    run = finished
    (run / "summary.json").unlink()
    if checkpoints == "last only":
        (run / "checkpoints" / "previous.ckpt").unlink()
    assert main(["resume", str(run)]) == 0
    assert_same(whole, state(run))


def test_a_kill_while_the_config_is_written(tmp_path: Path, whole: dict[str, Any]) -> None:
    run = tmp_path / "x" / "seed_1"
    run.mkdir(parents=True)
    (run / ".config.yaml.tmp").write_text("data:\n  sui")
    begun_again = state(fit(tmp_path))
    for name in ("heartbeat", "diagnostics", "final"):  # the checkpoint holds its folder's name
        assert_same(whole[name], begun_again[name])
    assert not (run / ".config.yaml.tmp").exists()


@pytest.mark.parametrize("content", ["", '{"experiment": "x", "see'])
def test_a_damaged_run_file(
    finished: Path, whole: dict[str, Any], capsys: pytest.CaptureFixture[str], content: str
) -> None:
    run = finished
    reset(run)
    (run / "run.json").write_text(content)
    capsys.readouterr()
    assert main(["resume", str(run)]) == 2
    message = error_line(capsys)
    assert f"{run / 'run.json'} is not valid JSON" in message
    assert message.endswith("where it is deleted, 'varshare resume' makes it anew")
    (run / "run.json").unlink()
    assert main(["resume", str(run)]) == 0
    assert_same(whole, state(run))


def test_all_checkpoints_damaged(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished
    for name in ("last.ckpt", "previous.ckpt"):
        (run / "checkpoints" / name).write_bytes(b"PK\x03\x04 not much")
    assert main(["resume", str(run)]) == 2
    assert "damaged" in error_line(capsys)


class _Payload:
    def __init__(self, proof: str) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.proof,)


@pytest.mark.parametrize("archive", [True, False])
def test_a_pickle_with_a_payload_is_refused_and_not_run(
    tmp_path: Path, finished: Path, capsys: pytest.CaptureFixture[str], archive: bool
) -> None:
    run, proof = finished, tmp_path / "proof"
    content = {"varshare": {"env_steps": 160}, "state_dict": _Payload(str(proof))}
    for name in ("last.ckpt", "previous.ckpt"):
        path = run / "checkpoints" / name
        torch.save(content, path) if archive else path.write_bytes(pickle.dumps(content))
    for args in (["resume", str(run)], ["fit", *SMALL, "--init_from", str(run / "checkpoints" / "last.ckpt")]):
        assert main([*args, "--data.total_env_steps", "3200", "--model.minibatch_size", "40"]) == 2
        assert "is not a checkpoint" in error_line(capsys)
    assert not proof.exists()


def test_no_space_for_a_checkpoint(
    tmp_path: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saves = []

    def full(path: Path) -> None:
        saves.append(path)
        if len(saves) > 6:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module, "fsync", full)
        with pytest.raises(AssertionError):
            fit(tmp_path)
    message = error_line(capsys)
    assert "last.ckpt: No space left on device" in message
    run = tmp_path / "x" / "seed_1"
    assert main(["resume", str(run)]) == 0
    assert_same(whole, state(run))


def test_no_space_for_the_heartbeat(
    tmp_path: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row, rows = heartbeat_module.heartbeat_row, []

    def full(*args: Any) -> str:
        rows.append(args)
        if len(rows) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return row(*args)

    with monkeypatch.context() as patch:
        patch.setattr(heartbeat_module, "heartbeat_row", full)
        with pytest.raises(AssertionError):
            fit(tmp_path)
    assert "heartbeat.csv: No space left on device" in error_line(capsys)
    run = tmp_path / "x" / "seed_1"
    assert main(["resume", str(run)]) == 0
    assert_same(whole, state(run))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small file system")
def test_a_full_disk(tmp_path: Path, whole: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let us mount")
    try:
        with pytest.raises(AssertionError):
            fit(disk)
        assert "No space left on device" in error_line(capsys)
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        run = disk / "x" / "seed_1"
        assert main(["resume", str(run)]) == 0
        assert_same(whole, state(run))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


FAULTS = {
    "raise": "raised RuntimeError: the simulator is gone",
    "nan": "gave an observation that is not finite in float32",
    "shape": "gave an observation of shape (3,); (2,) is its space's",
}


def faulty(fault: str, backend: str, logs: Path) -> list[str]:
    tasks = [{"id": "faulty:Faulty-v0"}, {"id": "faulty:Faulty-v0", "name": "bad", "kwargs": {"fault": fault}}]
    args = ["fit", *SMALL, "--data.suite", json.dumps(tasks), "--data.backend", backend, "--data.num_envs", "4"]
    return [*args, "--model.minibatch_size", "32", "--data.total_env_steps", "640", "--logs_dir", str(logs)]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("backend", ["sync", "workers"])
def test_an_env_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], backend: str, fault: str
) -> None:
    monkeypatch.syspath_prepend(str(HERE))
    assert main(faulty(fault, backend, tmp_path)) == 1
    message = error_line(capsys)
    assert re.search(r"env [13] \(task 1, bad\) at step 10 of its episode", message)  # both fail at once
    assert FAULTS[fault] in message
    # Rollouts have 16 steps: the env fails in the third, and the state after the second is on disk.
    content = torch.load(tmp_path / "x" / "seed_1" / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["varshare"]["env_steps"] == 128
    assert content["RolloutDataModule"]["env_steps"] == 128


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_env_process_that_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(HERE))
    assert main(faulty("die", "workers", tmp_path)) == 1
    message = error_line(capsys)
    assert re.search(r"env [13] \(task 1, bad\) at step 10 of its episode: its process died of SIGKILL", message)


def test_a_gradient_that_is_not_finite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssertionError):
        fit(tmp_path, "--model.lr_critic", "1e30", "--model.max_grad_norm", "null")
    message = error_line(capsys)
    assert "the gradient of the critic is not finite in rollout 0, gradient step" in message
    assert "not finite in the loss: value" in message


def test_two_processes_cannot_write_one_run(tmp_path: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished
    reset(run)
    before = (run / "heartbeat.csv").read_bytes()
    again = ["fit", *SMALL, "--overwrite", "true", "--logs_dir", str(tmp_path), "--model.minibatch_size", "40"]
    held = lock(run)
    try:
        with start("resume", str(run)) as process:
            _, err = process.communicate(timeout=100)
        capsys.readouterr()
        assert (process.returncode, main(again)) == (2, 2)  # a lock holds within a process too
    finally:
        held.release()
    for told in (err, capsys.readouterr().err):
        assert told.startswith(f"varshare: error: {run}: another process is writing this run")
    assert (run / "heartbeat.csv").read_bytes() == before


def start(*args: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "varshare_pl", *args], stderr=subprocess.PIPE, text=True)


def wait_for_rows(run: Path, rows: int, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    path = run / "heartbeat.csv"
    while not (path.exists() and path.read_bytes().count(b"\n") > rows):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def seconds(run: Path) -> float:
    return float(json.loads((run / "summary.json").read_text())["seconds"])


def test_the_seconds_are_those_of_all_sessions(tmp_path: Path) -> None:
    """Work that a kill lost does not count: the clock goes on from the last checkpoint's."""
    options = [*SMALL, "--data.num_envs", "10", "--data.total_env_steps", "16000", "--model.minibatch_size", "40"]
    run = tmp_path / "x" / "seed_1"
    with start("fit", *options, "--checkpoint.every", "5", "--logs_dir", str(tmp_path)) as process:
        wait_for_rows(run, 13)
        process.kill()
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["varshare"]["wall_time_s"]
    begin = time.perf_counter()
    assert main(["resume", str(run), "--data.total_env_steps", "4000"]) == 0
    session = time.perf_counter() - begin
    assert saved + 0.01 < seconds(run) < saved + session
    with (run / "heartbeat.csv").open() as table:
        times = [float(row["wall_time_s"]) for row in csv.DictReader(table)]
    assert times == sorted(times)
    assert times[-1] <= seconds(run)
    first, begin = seconds(run), time.perf_counter()
    assert main(["resume", str(run), "--data.total_env_steps", "5600"]) == 0  # an extended run, too
    assert first * 0.5 < seconds(run) < first + time.perf_counter() - begin


LONG = ["fit", *SMALL, "--data.num_envs", "10", "--data.total_env_steps", "4800", "--model.minibatch_size", "40"]
LONG += ["--checkpoint.every", "0", "--evaluation.every", "1600"]


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run of 30 rollouts leaves that nobody stopped."""
    logs = tmp_path_factory.mktemp("long")
    assert main([*LONG, "--logs_dir", str(logs)]) == 0
    return state(logs / "x" / "seed_1")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_between_rollouts(tmp_path: Path, long_run: dict[str, Any], number: signal.Signals) -> None:
    run = tmp_path / "x" / "seed_1"
    process = start(*LONG, "--logs_dir", str(tmp_path))
    wait_for_rows(run, 3)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"varshare: stopped by {number.name}; go on with: varshare resume {run}" in err
    assert "Traceback" not in err
    assert not (run / "summary.json").exists()
    assert main(["resume", str(run)]) == 0
    assert_same(long_run, state(run))


@pytest.mark.slow(seconds=80)
def test_thirty_kills(tmp_path: Path) -> None:
    """SIGKILL at random moments: rollout, update, evaluation, checkpoint. The driver forks, to spare the start-up."""
    driver = [sys.executable, str(HERE / "kill_driver.py"), str(tmp_path)]
    env = os.environ | {"PYTHONPATH": str(HERE.parent)}  # of ``helpers``
    done = subprocess.run(driver, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "killed 30 times"
    assert_same(state(tmp_path / "whole" / "x" / "seed_1"), state(tmp_path / "x" / "seed_1"))
