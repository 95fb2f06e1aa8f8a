"""Studies on a real Ray cluster: nodes on this machine that end with the test."""

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import psutil
import pytest
import small
from cluster import free_port
from helpers import end_fork_server

from varshare_pl.cli.main import main
from varshare_pl.processes import usable_cores

SECONDS = 600.0  # for runs to begin: Ray takes long to start on a machine that is busy
LONG = {"data.total_env_steps": 16_000}
ENDLESS = {"data.total_env_steps": 16_000_000}
ONE_ROLLOUT = {"data.rollout_steps": 1_000_000, "data.total_env_steps": 10_000_000}
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}


def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that ends the study before anything is written."""
    assert main(["study", str(folder / "file.yaml"), "--executor", "ray"]) == 2
    line = capsys.readouterr().err
    assert line.startswith("varshare: error: ")
    assert line.count("\n") == 1
    assert [path.name for path in folder.iterdir()] == ["file.yaml"]
    return line.removeprefix("varshare: error: ").strip()


def test_ray_has_to_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    small.write(tmp_path)
    assert refused(tmp_path, capsys) == 'executor: ray needs Ray; pip install "varshare-pl[ray]"'


def test_a_cluster_has_to_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    allowed = "HOST:PORT of a cluster's head, or auto, is"
    silent = f"127.0.0.1:{free_port()}"
    small.write(tmp_path, ray={"address": silent})
    expected = f"ray.address: no Ray cluster answers at {silent}; {allowed} allowed"
    assert refused(tmp_path, capsys) == expected
    small.write(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", silent)
    assert refused(tmp_path, capsys) == expected
    monkeypatch.setenv("RAY_ADDRESS", "ray://there:1")
    assert refused(tmp_path, capsys) == f"RAY_ADDRESS: ray://there:1 is not allowed; {allowed}"


def test_a_run_has_to_fit_this_machine_where_there_is_no_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], session: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_TMPDIR", session)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    small.write(tmp_path, ray={"cpus": 10_000})
    expected = f"ray.cpus: 10000 is not allowed; this machine alone has {usable_cores()}"
    assert refused(tmp_path, capsys) == expected


@pytest.mark.slow
def test_a_run_has_to_find_its_gpus_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], session: str
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_TMPDIR", session)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    small.write(tmp_path, ray={"gpus": 10_000})
    assert refused(tmp_path, capsys).startswith("ray.gpus: 10000 is not allowed; this machine alone has ")
    assert not ray.is_initialized()


class Nodes:
    """A cluster of two nodes with one CPU each; a run fills a node."""

    def __init__(self, temporary: str) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=True, head_node_args={**NODE, "temp_dir": temporary})
        self._second = self._cluster.add_node(**NODE)
        self.address = str(self._cluster.address)

    def kill_the_second(self) -> list[str]:
        """SIGKILL to all its processes, as when its machine loses power; gives the folders of the runs on it."""
        raylet = psutil.Process(self._second.all_processes["raylet"][0].process.pid)
        processes = [raylet, *raylet.children(recursive=True)]
        for one in processes:
            one.suspend()  # none may tell another
        opened = {Path(file.path).parent for one in processes for file in one.open_files()}
        for one in processes:
            one.kill()
        self._cluster.remove_node(self._second, allow_graceful=False)
        return sorted(str(folder) for folder in opened if folder.name.startswith("seed_"))

    def shutdown(self) -> None:
        self._cluster.shutdown()


@pytest.fixture
def session() -> Iterator[str]:
    """A folder for Ray's files; the paths of its sockets have to be short."""
    pytest.importorskip("ray")
    folder = tempfile.mkdtemp(prefix="ray")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def nodes(session: str) -> Iterator[Nodes]:
    resource_tracker.ensure_running()  # Python's own, which lives as long as this process
    before = {one.pid for one in psutil.Process().children(recursive=True)}
    made = Nodes(session)
    try:
        yield made
    finally:
        made.shutdown()
        end_fork_server()
    left = [one for one in psutil.Process().children(recursive=True) if one.pid not in before]
    assert not psutil.wait_procs(left, timeout=120)[1]


def on_ray(folder: Path, **variables: str) -> Any:
    return small.started(folder, "--executor", "ray", env={**os.environ, **variables})


def count(run: Path) -> int:
    """Lines of a run's heartbeat."""
    return (run / "heartbeat.csv").read_bytes().count(b"\n")


def under_way(folder: Path, rows: int = 6) -> int:
    """How many runs have written so many lines of their heartbeats, and not ended."""
    tables = [path for path in folder.rglob("heartbeat.csv") if not (path.parent / "summary.json").exists()]
    return sum(path.read_bytes().count(b"\n") > rows for path in tables)


@pytest.mark.slow
def test_runs_of_a_lost_node_go_on_exactly(tmp_path: Path, nodes: Nodes) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        small.write(folder, suites={"mirrored": "mirrored_cartpole"}, overrides=LONG)
    folder = there / "logs" / "small"
    with on_ray(there, RAY_ADDRESS=nodes.address) as process:
        small.wait_for(lambda: under_way(folder) == 2, process, SECONDS)
        (lost,) = nodes.kill_the_second()
        rows = count(Path(lost))
        out, err = process.communicate(timeout=600)
    assert (process.returncode, err) == (0, ""), out
    assert out.splitlines()[-1] == "4 finished"
    assert 6 < rows < count(Path(lost))  # it was not done
    assert small.study(here)[0] == 0
    assert small.all_left(folder) == small.all_left(here / "logs" / "small")


@pytest.mark.slow
def test_the_first_signal_stops_runs_after_their_rollout_and_the_second_at_once(tmp_path: Path, session: str) -> None:
    """On a cluster of this machine alone, which the study starts and ends."""
    small.write(tmp_path, seeds=[1], suites={"mirrored": "mirrored_cartpole"}, overrides=ENDLESS)
    folder = tmp_path / "logs" / "small"
    with on_ray(tmp_path, RAY_TMPDIR=session) as process:
        small.wait_for(lambda: under_way(folder), process, SECONDS)
        everything = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=600)
    assert (process.returncode, err) == (130, ""), out
    assert out.splitlines()[-1] == "stopped; the same command goes on"
    assert not (folder / "failures").exists()
    assert (folder / "mirrored_varshare" / "seed_1" / "checkpoints" / "last.ckpt").exists()  # a clean stop
    assert len(everything) > 4
    assert not psutil.wait_procs(everything, timeout=120)[1]

    small.write(tmp_path, name="slow", seeds=[1], suites={"mirrored": "mirrored_cartpole"}, overrides=ONE_ROLLOUT)
    folder = tmp_path / "logs" / "slow"
    with on_ray(tmp_path, RAY_TMPDIR=session) as process:
        small.wait_for(lambda: list(folder.glob("*/*/heartbeat.csv")), process, SECONDS)
        everything = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        time.sleep(3.0)
        assert process.poll() is None  # its rollout takes minutes
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (130, ""), out
    assert not (folder / "failures").exists()
    assert not psutil.wait_procs(everything, timeout=120)[1]
