"""A study's runs are those of ``varshare fit``, to the bit, whatever happens to the study on its way."""

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import small
from helpers import end_fork_server

from varshare_pl.cli.main import main
from varshare_pl.run_folder import lock
from varshare_pl.study.local import ForkServer


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study; not to be changed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    small.write(folder, reference="shared", description="Short runs")
    with pytest.MonkeyPatch.context() as patch:  # an agent of a sweep may have started it
        patch.setenv("WANDB_SWEEP_ID", "sweep")
        patch.setenv("WANDB_RUN_ID", "trial")
        code, out, err = small.study(folder)
    assert (code, err) == (0, "")
    assert out.splitlines()[-2:] == ["report: varshare report logs/small", "8 finished"]
    return folder / "logs" / "small"


def test_what_a_study_leaves(undisturbed: Path) -> None:
    content = json.loads((undisturbed / "study.json").read_text())
    names = ["complex_varshare", "complex_shared", "mirrored_varshare", "mirrored_shared"]
    assert [variant["name"] for variant in content["variants"]] == names
    assert list(small.runs(undisturbed)) == sorted(f"{name}/seed_{seed}" for name in names for seed in (1, 2))
    assert content["variants"][1]["args"][:4] == ["--config", "complex_cartpole", "--config", "methods/shared"]
    assert {key: content[key] for key in ("name", "description", "seeds", "env_steps", "reference", "tuning")} == {
        "name": "small",
        "description": "Short runs",
        "seeds": [1, 2],
        "env_steps": 960,
        "reference": "shared",
        "tuning": None,
    }
    assert content["method_order"] == ["varshare", "shared"]
    assert content["suite_order"] == ["complex", "mirrored"]
    assert "mean return" in (undisturbed / "output" / "complex_shared__seed_2.log").read_text()


def test_each_run_is_that_of_the_printed_command(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small.write(tmp_path)
    code, out, err = small.study(tmp_path, "--dry-run")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[-1] == "8 runs, 7,680 env steps, 7,680 of them left"
    assert [path.name for path in tmp_path.iterdir()] == ["file.yaml"]
    state, command = lines[3].split(maxsplit=1)
    assert state == "waiting"
    program, *args = shlex.split(command)
    assert program == "varshare"
    assert main(args) == 0
    ((name, alone),) = small.runs(tmp_path / "logs" / "small").items()
    assert name == "mirrored_varshare/seed_1"
    assert small.left(alone) == small.left(undisturbed / name)


def test_finished_runs_are_skipped_and_new_ones_added(undisturbed: Path, tmp_path: Path) -> None:
    one_suite = {"suites": {"mirrored": "mirrored_cartpole"}}
    small.write(tmp_path, seeds=[1], methods={"shared": "methods/shared"}, **one_suite)
    assert small.study(tmp_path)[0] == 0
    folder = tmp_path / "logs" / "small"
    before = {name: (path / "summary.json").stat().st_mtime_ns for name, path in small.runs(folder).items()}
    created = json.loads((folder / "study.json").read_text())["created"]
    small.write(tmp_path, **one_suite)
    code, out, _ = small.study(tmp_path)
    assert code == 0
    assert sum("running" in line for line in out.splitlines()) == 3
    expected = {name: left for name, left in small.all_left(undisturbed).items() if name.startswith("mirrored_")}
    assert small.all_left(folder) == expected
    assert len(expected) == 4
    assert all((folder / name / "summary.json").stat().st_mtime_ns == time_ns for name, time_ns in before.items())
    assert json.loads((folder / "study.json").read_text())["created"] == created


def test_other_options_than_those_of_the_runs_are_told(undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "logs" / "small"
    shutil.copytree(undisturbed, folder)
    run = folder / "complex_varshare" / "seed_1"
    for overrides, message in (
        ({"model.gamma": 0.9}, f"model.gamma: the study has 0.9, the run in {run.relative_to(tmp_path)} has 0.99;"),
        ({"data.total_env_steps": 4800}, "data.total_env_steps: the study has 4800, the run in"),
    ):
        small.write(tmp_path, overrides=overrides)
        code, _, err = small.study(tmp_path)
        assert code == 2
        assert err.startswith(f"varshare: error: complex_varshare: {message}")
        assert err.count("\n") == 1
    small.write(tmp_path, methods={"varshare": "methods/varshare"})
    code, _, err = small.study(tmp_path)
    assert code == 2
    assert err.startswith("varshare: error: logs/small/complex_shared: the study's file has no complex_shared any more")
    (tmp_path / "logs" / "other").mkdir()
    (tmp_path / "logs" / "other" / "mine.txt").touch()
    small.write(tmp_path, name="other")
    code, _, err = small.study(tmp_path)
    assert (code, err) == (
        2,
        "varshare: error: logs/other exists and is not a study's folder; give the study another name\n",
    )


def faulty(folder: Path) -> None:
    """A study with a variant whose env fails."""
    bad = [{"id": "faulty_env:FaultyForStudies-v0"}, {"id": "faulty_env:FaultyForStudies-v0", "name": "second"}]
    suites = {"good": "mirrored_cartpole", "bad": {"configs": "mirrored_cartpole", "data.suite": bad}}
    overrides = {"data.backend": "sync", "data.num_envs": 4, "model.minibatch_size": 32, "data.total_env_steps": 640}
    small.write(folder, suites=suites, methods={"shared": "methods/shared"}, seeds=[1], overrides=overrides)


def test_a_failed_run_is_shown_and_waits_to_be_asked_for(tmp_path: Path) -> None:
    faulty(tmp_path)
    (tmp_path / "fails").touch()
    code, out, _ = small.study(tmp_path)
    message = "raised RuntimeError: the simulator is gone"
    assert code == 1
    assert any(line.startswith("[") and "failed      bad_shared__seed_1" in line and message in line
               for line in out.splitlines())  # fmt: skip
    assert "1 failed; 1 finished" in out
    folder = tmp_path / "logs" / "small"
    failure = json.loads((folder / "failures" / "bad_shared__seed_1.json").read_text())
    assert (failure["variant"], failure["seed"], failure["exit_code"]) == ("bad_shared", 1, 1)
    assert message in failure["message"]
    assert message in (folder / failure["log"]).read_text()

    (tmp_path / "fails").unlink()
    code, out, _ = small.study(tmp_path)
    assert code == 1
    assert "running" not in out
    assert f"failed: bad_shared__seed_1: {failure['message']} (logs/small/{failure['log']})" in out

    code, out, _ = small.study(tmp_path, "--retry-failed")
    assert code == 0
    assert "2 finished" in out
    assert not list((folder / "failures").iterdir())
    alone = tmp_path / "alone"  # resumed from the checkpoint before the fault, it is the run that never failed
    alone.mkdir()
    faulty(alone)
    assert small.study(alone)[0] == 0
    assert small.all_left(folder) == small.all_left(alone / "logs" / "small")


LONGER = {"data.total_env_steps": 4800}  # long enough to be stopped on the way


def rows(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.rglob("heartbeat.csv"))


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_stopped_study_goes_on(number: signal.Signals, tmp_path: Path) -> None:
    small.write(tmp_path, seeds=[1], suites={"mirrored": "mirrored_cartpole"}, overrides=LONGER)
    folder = tmp_path / "logs" / "small"
    with small.started(tmp_path) as process:
        small.wait_for(lambda: rows(folder) > 4, process)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (128 + number, "")
    assert "stopped; the same command goes on" in out
    assert not list(folder.rglob("summary.json"))
    assert not (folder / "failures").exists()
    code, out, _ = small.study(tmp_path)
    assert code == 0
    stopped = small.all_left(folder)
    whole = tmp_path / "whole"
    whole.mkdir()
    small.write(whole, seeds=[1], suites={"mirrored": "mirrored_cartpole"}, overrides=LONGER)
    assert small.study(whole)[0] == 0
    assert stopped == small.all_left(whole / "logs" / "small")
    assert len(stopped) == 2


def test_a_killed_study_leaves_no_run_behind_and_none_runs_twice(tmp_path: Path) -> None:
    small.write(
        tmp_path, seeds=[1], suites={"mirrored": "mirrored_cartpole"}, overrides={"data.total_env_steps": 1_600_000}
    )
    folder = tmp_path / "logs" / "small"
    with small.started(tmp_path) as process:
        small.wait_for(lambda: rows(folder) > 4, process)
        second = small.study(tmp_path)
        assert second[0] == 2
        assert "another process runs this study" in second[2]
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.communicate()
    gone, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
    assert len(gone) >= 3  # the fork server and two runs
    assert not list(folder.rglob("summary.json"))


def test_a_run_that_another_process_writes_is_waited_for(tmp_path: Path) -> None:
    small.write(tmp_path, seeds=[1], suites={"mirrored": "mirrored_cartpole"}, workers=1)
    folder = tmp_path / "logs" / "small"
    folder.mkdir(parents=True)
    (folder / "study.json").write_text('{"variants": []}')
    held = lock(folder / "mirrored_varshare" / "seed_1")
    with small.started(tmp_path) as process:
        small.wait_for((folder / "mirrored_shared" / "seed_1" / "summary.json").exists, process)
        time.sleep(0.5)
        assert process.poll() is None
        held.release()
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "locked      mirrored_varshare__seed_1" in out
    assert "2 finished" in out


@pytest.mark.slow
def test_a_process_per_device_within_a_study(tmp_path: Path) -> None:
    overrides = {"trainer.devices": 2, "trainer.strategy": "ddp", "data.num_envs": 8, "model.minibatch_size": 64}
    small.write(tmp_path, seeds=[1], suites={"mirrored": "mirrored_cartpole"}, overrides=overrides, workers=1)
    code, out, err = small.study(tmp_path)
    assert (code, err) == (0, ""), out
    summary = json.loads((tmp_path / "logs/small/mirrored_shared/seed_1/summary.json").read_text())
    assert summary["finished"]


@pytest.mark.slow(seconds=100)
def test_twenty_runs_killed_five_times(tmp_path: Path) -> None:
    """SIGKILL to everything at random times; what is left at the end is what an undisturbed study leaves."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        small.write(folder, seeds="1-5", overrides={"data.total_env_steps": 3200})
    assert small.study(whole)[0] == 0
    expected = small.all_left(whole / "logs" / "small")
    assert len(expected) == 20
    total = rows(whole / "logs" / "small")
    draw, folder = random.Random(1), killed / "logs" / "small"
    for kill in range(5):
        with small.started(killed) as process:
            target = draw.uniform(kill, kill + 1) / 5 * 0.95 * total
            small.wait_for(lambda: rows(folder) >= target, process, 300)  # noqa: B023
            time.sleep(draw.uniform(0.0, 0.3))
            everything = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            for one in everything:
                os.kill(one.pid, signal.SIGKILL)
            process.communicate()
        psutil.wait_procs(everything, timeout=30)
    code, out, _ = small.study(killed)
    assert code == 0
    assert out.splitlines()[-1] == "20 finished"
    assert small.all_left(folder) == expected
    for one in (whole, killed):
        assert main(["report", str(one / "logs" / "small")]) == 0
    scores = [(one / "logs" / "small" / "report" / "scores.csv").read_bytes() for one in (whole, killed)]
    assert scores[0] == scores[1]
    assert scores[0].count(b"\n") > 20


def test_help_is_light(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "--help"]) == 0
    assert "--retry-failed" in capsys.readouterr().out
    code = "import sys; from varshare_pl.cli.main import main; main(['study', '--help']); "
    heavy = {"torch", "lightning", "optuna", "submitit", "ray"}
    code += f"print({{name.partition('.')[0] for name in sys.modules}} & {heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def count_threads(file: str) -> None:
    threads = len(psutil.Process(os.getppid()).threads())
    Path(file).write_text(f"{threads} {psutil.Process().num_threads()} {'varshare_pl.cli.lightning' in sys.modules}")


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted by Linux's means")
def test_what_is_forked_has_one_thread_and_all_imports(tmp_path: Path) -> None:
    end_fork_server()
    process = ForkServer("varshare_pl.cli.preload").start(count_threads, str(tmp_path / "threads"))
    process.join()
    assert (tmp_path / "threads").read_text() == "1 1 True"
