"""Studies on a real SLURM: one node on this machine, with daemons of its own that end with the test."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import small
from cluster import available, running_cluster

from varshare_pl.cli.main import main

LIMIT = {"hours": 1 / 60, "notice": 40, "partition": "test", "memory_gb": 0.3}
LONG = {"data.total_env_steps": 480_000, "checkpoint.every": 10}


def test_slurm_has_to_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(["study", str(small.write(tmp_path)), "--executor", "slurm"]) == 2
    expected = "executor: slurm needs SLURM's commands sbatch and squeue; local is for this machine"
    assert capsys.readouterr().err == f"varshare: error: {expected}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["file.yaml"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    if not available():
        pytest.skip("needs root and the packages slurm-wlm and munge")
    with running_cluster(tmp_path_factory.mktemp("slurm")) as env:
        yield {**env, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}


def on_slurm(folder: Path, env: dict[str, str]) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "varshare_pl", "study", "file.yaml", "--executor", "slurm"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder, env=env, text=True, **pipes)


def queue(env: dict[str, str], form: str = "%i %T") -> list[str]:
    done = subprocess.run(["squeue", "-h", "-o", form], env=env, capture_output=True, text=True, check=True)
    return done.stdout.split("\n")[:-1]


def finish(process: "subprocess.Popen[str]", env: dict[str, str]) -> tuple[int, str, str]:
    """Wait for a study; jobs that were put back wait two minutes by SLURM's rules, here they start at once."""
    deadline = time.monotonic() + 500
    while process.poll() is None:
        assert time.monotonic() < deadline, queue(env)
        for line in queue(env, "%i %r"):
            number, reason = line.split(maxsplit=1)
            if reason == "BeginTime":
                update = ["scontrol", "update", f"jobid={number}", "StartTime=now"]
                subprocess.run(update, env=env, capture_output=True, check=False)
        time.sleep(1.0)
    out, err = process.communicate()
    return process.returncode, out, err


def count_rows(table: Path) -> int:
    return table.read_bytes().count(b"\n") - 1


def wait_for_rows(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while sum(path.read_bytes().count(b"\n") for path in folder.rglob("heartbeat.csv")) < count:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_a_job_that_is_out_of_time_goes_on_exactly(tmp_path: Path, cluster: dict[str, str]) -> None:
    """A job has a minute, and is told to stop 40 s before; with the granularity of SLURM it has to be put back."""
    here, there = tmp_path / "here", tmp_path / "there"
    changes = {"seeds": [1], "suites": {"serial": "experiments/complex_serial"}, "slurm": LIMIT}
    overrides = {"data.total_env_steps": 160000, "data.num_envs": 1, "data.rollout_steps": 128}
    for folder in (here, there):
        folder.mkdir()
        small.write(folder, **changes, overrides={**overrides, "model.minibatch_size": 16})
    code, out, err = finish(on_slurm(there, cluster), cluster)
    assert (code, err) == (0, ""), out
    logs = [path.read_text() for path in (there / "logs" / "small" / "slurm").glob("*.out")]
    assert len(logs) == 2
    assert any("Requeued job" in text for text in logs), "no job ran out of time: make the runs longer"
    assert small.study(here)[0] == 0
    assert small.all_left(there / "logs" / "small") == small.all_left(here / "logs" / "small")


@pytest.mark.slow
def test_jobs_are_found_again_and_stopped(tmp_path: Path, cluster: dict[str, str]) -> None:
    small.write(tmp_path, seeds=[1], suites={"mirrored": "mirrored_cartpole"}, overrides=LONG)
    folder = tmp_path / "logs" / "small"
    process = on_slurm(tmp_path, cluster)
    wait_for_rows(folder, 4)
    process.kill()
    process.communicate()
    jobs = queue(cluster, "%i")
    assert len(jobs) == 2
    process = on_slurm(tmp_path, cluster)
    assert process.stdout is not None
    assert [process.stdout.readline().split()[1] for _ in jobs] == ["running"] * 2  # found, and watched from now on
    assert queue(cluster, "%i") == jobs  # none was submitted twice
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process, cluster)
    assert (code, err) == (130, ""), out
    assert not queue(cluster)
    assert not (folder / "failures").exists()
    assert all(0 < rows < 3000 for rows in map(count_rows, folder.rglob("heartbeat.csv")))
    assert all((run / "checkpoints" / "last.ckpt").exists() for run in small.runs(folder).values())  # a clean stop
