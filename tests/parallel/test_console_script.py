"""``varshare fit`` over two processes, as a user runs it."""

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

from varshare_pl.cli.main import main
from varshare_pl.run_folder import lock

TIMEOUT = 90
VARSHARE = Path(sys.executable).with_name("varshare")
TWO = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.accelerator", "cpu"]
SMALL = ["--data.num_envs", "10", "--data.rollout_steps", "16", "--data.total_env_steps", "640"]
SMALL += ["--model.minibatch_size", "80", "--model.hidden_sizes", "[8]", "--evaluation.episodes", "2"]
SMALL += ["--evaluation.every", "0", "--plots.enabled", "false"]
ENDLESS = ["--data.total_env_steps", "100000000", "--checkpoint.every", "0"]
ENV = os.environ | {"OMP_NUM_THREADS": "1"}


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [str(VARSHARE), "fit", "--experiment", "two", "--logs_dir", "logs", *SMALL, *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder, env=ENV, text=True, **pipes)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code and output; a run that hangs is ended, with the processes that it started."""
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        for other in [*psutil.Process(process.pid).children(recursive=True), process]:
            other.kill()
        process.communicate()
        raise
    return process.returncode, out, err


def error_lines(err: str) -> list[str]:
    assert "Traceback" not in err, err
    return [line for line in err.splitlines() if line]


def heartbeat(folder: Path) -> list[dict[str, str]]:
    with (folder / "logs" / "two" / "seed_1" / "heartbeat.csv").open(encoding="utf-8") as table:
        return list(csv.DictReader(table))


def check_fit(folder: Path, options: Sequence[str]) -> None:
    code, out, err = finish(start(folder, *options, "--plots.enabled", "true"))
    assert code == 0, err
    assert error_lines(err) == []
    assert out.count("episodes  solved") == 1
    assert out.count("results: ") == 1
    assert [int(row["env_steps"]) for row in heartbeat(folder)] == [160, 320, 480, 640]
    names = {path.name for path in (folder / "logs" / "two" / "seed_1").iterdir()}
    assert {"config.yaml", "run.json", "summary.json", "heartbeat.csv", "diagnostics.csv", "plots"} <= names
    assert list(folder.rglob("*.tmp*")) == []
    assert {path.name for path in folder.iterdir()} == {"logs"}


def test_fit_with_ddp(tmp_path: Path) -> None:
    check_fit(tmp_path, TWO)


@pytest.mark.slow
def test_fit_with_auto(tmp_path: Path) -> None:
    check_fit(tmp_path, ["--trainer.devices", "2", "--trainer.strategy", "auto", "--trainer.accelerator", "auto"])


@pytest.mark.slow
def test_envs_that_cannot_be_split_evenly(tmp_path: Path) -> None:
    options = ["--data.num_envs", "15", "--model.minibatch_size", "240"]
    code, _, err = finish(start(tmp_path, *TWO, *options))
    assert code == 2
    assert error_lines(err) == [
        "varshare: error: data.num_envs: 15 is not allowed with 2 processes; a multiple of 10 is"
    ]
    assert not (tmp_path / "logs").exists()


@pytest.mark.slow
def test_a_fault_of_the_first_process_alone(tmp_path: Path) -> None:
    """Only the first one writes, so only it finds that the folder is in use."""
    held = lock(tmp_path / "logs" / "two" / "seed_1")
    code, _, err = finish(start(tmp_path, *TWO))
    held.release()
    assert code == 2
    assert len(error_lines(err)) == 1
    assert "another process is writing this run" in err


HALF_BROKEN = """
import os
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv

class HalfBroken(CartPoleEnv):
    count = 0
    def step(self, action):
        self.count += 1
        if os.environ.get("LOCAL_RANK") == "1" and self.count == 20:
            raise RuntimeError("the simulator is gone")
        return super().step(action)

gymnasium.register("HalfBroken-v0", HalfBroken)
"""


@pytest.mark.slow
def test_a_fault_of_the_second_process_alone(tmp_path: Path) -> None:
    (tmp_path / "half_broken.py").write_text(HALF_BROKEN, encoding="utf-8")
    code, _, err = finish(start(tmp_path, *TWO, "--data.suite", "[{id: 'half_broken:HalfBroken-v0'}]"))
    assert code == 1
    assert len(error_lines(err)) == 1
    assert "the simulator is gone" in err
    assert "env 5 " in err
    assert len(heartbeat(tmp_path)) == 1


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def training(folder: Path) -> bool:
    path = folder / "logs" / "two" / "seed_1" / "heartbeat.csv"
    return path.exists() and len(heartbeat(folder)) >= 2


def started_by(process: subprocess.Popen[str]) -> int:
    """The second process of a run."""
    (other,) = psutil.Process(process.pid).children()
    return other.pid


@pytest.mark.slow
@pytest.mark.parametrize("to", ["first", "second"])
def test_a_signal_ends_a_run_and_it_can_go_on(tmp_path: Path, to: str) -> None:
    process = start(tmp_path, *TWO, *ENDLESS)
    wait_until(lambda: training(tmp_path))
    os.kill(process.pid if to == "first" else started_by(process), signal.SIGTERM)
    code, _, err = finish(process)
    assert code == 128 + signal.SIGTERM
    assert "go on with: varshare resume" in error_lines(err)[-1]
    steps = int(heartbeat(tmp_path)[-1]["env_steps"])
    command = [str(VARSHARE), "resume", "logs/two/seed_1", "--data.total_env_steps", str(steps + 320)]
    done = subprocess.run(command, cwd=tmp_path, env=ENV, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    rows = [int(row["env_steps"]) for row in heartbeat(tmp_path)]
    assert rows == list(range(160, steps + 321, 160))


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["first", "second"])
def test_a_process_that_is_killed_ends_the_run(tmp_path: Path, killed: str) -> None:
    process = start(tmp_path, *TWO, *ENDLESS)
    wait_until(lambda: training(tmp_path))
    second = psutil.Process(started_by(process))
    os.kill(process.pid if killed == "first" else second.pid, signal.SIGKILL)
    assert finish(process)[0] != 0  # the pipes close when both have ended
    wait_until(lambda: not second.is_running() or second.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("MASTER_PORT", "in use", "cannot be used (Address already in use); another one, or none, is allowed"),
        ("MASTER_PORT", "abc", "MASTER_PORT: 'abc' is not allowed; a number from 1 to 65535, or none, is"),
        ("MASTER_PORT", "65536", "MASTER_PORT: '65536' is not allowed; a number from 1 to 65535, or none, is"),
        ("MASTER_ADDR", "no.such.host.invalid", "MASTER_ADDR: 'no.such.host.invalid' is the name of no machine"),
    ],
)
def test_where_processes_cannot_meet(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str,
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv(name, str(taken.getsockname()[1]) if value == "in use" else value)
        assert main(["fit", "--experiment", "two", *SMALL, *TWO]) == 2
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
