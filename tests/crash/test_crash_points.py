"""Whatever file operation a command dies at, and whatever a power cut takes of its files: it comes to the same end."""

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from crashes import COMPILERS, Crashes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="needs a C compiler"),
    pytest.mark.skipif(os.uname().sysname != "Linux", reason="calls are caught by LD_PRELOAD, under Linux"),
]

EVERY = int(os.environ.get("VARSHARE_CRASH_EVERY", "10"))  # so many operations from one crash to the next; 1: all
CLOCK = ("wall_time_s", "sps")
SIZES = [
    *("--data.num_envs", "10", "--data.rollout_steps", "16", "--data.total_env_steps", "960"),
    *("--model.minibatch_size", "80", "--model.hidden_sizes", "[8]", "--checkpoint.every", "2"),
    *("--evaluation.every", "320", "--evaluation.episodes", "2", "--plots.enabled", "false"),
]
STUDY = """\
name: small
suites: {complex: complex_cartpole}
methods: {varshare: methods/varshare, shared: methods/shared}
seeds: [1]
workers: 1
overrides:
  data.num_envs: 10
  data.rollout_steps: 16
  data.total_env_steps: 480
  model.minibatch_size: 80
  model.hidden_sizes: [8]
  evaluation.every: 320
  evaluation.episodes: 2
  plots.enabled: false
"""

powers = pytest.mark.parametrize("power", [False, True], ids=["killed", "power cut"])


@pytest.fixture(scope="module")
def crashes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crashes]:
    crashes = Crashes(tmp_path_factory.mktemp("crashes"))
    yield crashes
    crashes.close()


@pytest.fixture(scope="module")
def whole(crashes: Crashes) -> Path:
    """The logs of a run that nothing happened to."""
    logs = crashes.folder / "undisturbed"
    crashes.run(*fit(logs))
    return logs


def fit(logs: Path) -> list[str]:
    return ["fit", "--config", "complex_cartpole", "--experiment", "x", "--logs_dir", str(logs), *SIZES]


def run_of(logs: Path) -> Path:
    return logs / "x" / "seed_1"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as table:
        return [{key: value for key, value in row.items() if key not in CLOCK} for row in csv.DictReader(table)]


def left(run: Path) -> dict[str, Any]:
    """All that a run leaves, without times."""
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    content["varshare"].pop("wall_time_s")
    return {
        "files": files(run),
        "weights": {name: value.tolist() for name, value in content["state_dict"].items()},
        "optimizer": str(content["optimizer_states"]),
        "progress": str(content["varshare"]),
        "heartbeat": rows(run / "heartbeat.csv"),
        "diagnostics": (run / "diagnostics.csv").read_text(),
        "final": (run / "summary.json").read_text().partition('"final"')[2],
    }


def files(folder: Path) -> list[str]:
    """All files but the halves of images and pages that a kill left, which bear the number of their process."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".part")
    return sorted(path.relative_to(folder).as_posix() for path in found)


def assert_same(expected: dict[str, Any], found: dict[str, Any], point: int) -> None:
    for name, value in expected.items():
        assert found[name] == value, f"{name}, died at operation {point}"


def die_at_every_point(
    crashes: Crashes,
    power: bool,
    prepare: Callable[[Path], Sequence[str]],
    go_on: Callable[[Path], None],
    result: Callable[[Path], dict[str, Any]],
    every: int = EVERY,
) -> None:
    """Let a command die at one operation after the other, go on, and compare what is left with the undisturbed end.

    Args:
        crashes: Runs it.
        power: Cut the power as well.
        prepare: Makes what a folder needs and gives the command.
        go_on: What a user does after the crash.
        result: What is left in the end.
        every: Operations from one crash to the next.
    """
    logs = crashes.folder / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    points = crashes.run(*prepare(logs))
    expected = result(logs)
    assert points > 5
    for point in range(1, points + 1, every):
        shutil.rmtree(logs)
        crashes.run(*prepare(logs), kill_at=point)
        if power:
            crashes.cut_power()
        go_on(logs)
        assert_same(expected, result(logs), point)


def resume(crashes: Crashes, logs: Path) -> None:
    """Resume a run, or start it if it had not begun."""
    run = run_of(logs)
    if not (run / "config.yaml").exists():
        crashes.run(*fit(logs))
    elif not (run / "summary.json").exists():  # else it was done
        crashes.run("resume", str(run))


@powers
def test_fit(crashes: Crashes, power: bool) -> None:
    die_at_every_point(crashes, power, fit, lambda logs: resume(crashes, logs), lambda logs: left(run_of(logs)))


@powers
def test_resume(crashes: Crashes, power: bool) -> None:
    half = crashes.folder / "half"
    shutil.rmtree(half, ignore_errors=True)
    crashes.run(*fit(half), kill_at=60)
    assert (run_of(half) / "checkpoints" / "last.ckpt").exists()

    def prepare(logs: Path) -> list[str]:
        shutil.copytree(half, logs)
        return ["resume", str(run_of(logs))]

    die_at_every_point(crashes, power, prepare, lambda logs: resume(crashes, logs), lambda logs: left(run_of(logs)))


@powers
def test_overwrite(crashes: Crashes, whole: Path, power: bool) -> None:
    def command(logs: Path) -> list[str]:
        return [*fit(logs), "--overwrite", "true"]

    def prepare(logs: Path) -> list[str]:
        shutil.copytree(whole, logs)
        return command(logs)

    def go_on(logs: Path) -> None:
        crashes.run(*command(logs))

    die_at_every_point(crashes, power, prepare, go_on, lambda logs: left(run_of(logs)))


def same_bytes(logs: Path) -> dict[str, Any]:
    return {name: (logs / name).read_bytes() for name in files(logs)}


@powers
@pytest.mark.parametrize("command", ["prune", "report", "plot"])
def test_what_is_made_of_a_run(crashes: Crashes, whole: Path, command: str, power: bool) -> None:
    def words(logs: Path) -> list[str]:
        return {
            "prune": ["prune", str(run_of(logs)), "--threshold", "1", "--overwrite"],
            "report": ["report", str(logs / "x")],
            "plot": ["plot", str(run_of(logs))],
        }[command]

    def prepare(logs: Path) -> list[str]:
        shutil.copytree(whole, logs)
        return words(logs)

    def go_on(logs: Path) -> None:
        crashes.run(*words(logs))

    every = EVERY if command == "prune" else 5 * EVERY  # all that is drawn takes seconds
    die_at_every_point(crashes, power, prepare, go_on, same_bytes, every)


def test_study(crashes: Crashes) -> None:
    def command(logs: Path) -> list[str]:
        return ["study", str(logs / "file.yaml"), "--logs_dir", str(logs), "--retry-failed"]

    def prepare(logs: Path) -> list[str]:
        logs.mkdir()
        (logs / "file.yaml").write_text(STUDY)
        return command(logs)

    def go_on(logs: Path) -> None:
        crashes.run(*command(logs))

    def result(logs: Path) -> dict[str, Any]:
        runs = sorted((logs / "small").glob("*/seed_*"))
        plan = json.loads((logs / "small" / "study.json").read_text())
        return {run.parent.name: left(run) for run in runs} | {"plan": {**plan, "created": None}}

    die_at_every_point(crashes, False, prepare, go_on, result, every=8 * EVERY)
