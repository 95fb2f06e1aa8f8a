"""Whatever file operation a run dies at, and whatever of its files a power cut takes: it goes on to the same end."""

import csv
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from crashes import COMPILERS, Crashes

pytestmark = [
    pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="needs a C compiler"),
    pytest.mark.skipif(os.uname().sysname != "Linux", reason="calls are caught by LD_PRELOAD, under Linux"),
]

EVERY = int(os.environ.get("VARSHARE_CRASH_EVERY", "10"))  # so many operations from one crash to the next; 1: all
CLOCK = ("wall_time_s", "sps")
FIT = [
    *("fit", "--config", "complex_cartpole", "--experiment", "x"),
    *("--data.num_envs", "10", "--data.rollout_steps", "16", "--data.total_env_steps", "960"),
    *("--model.minibatch_size", "80", "--model.hidden_sizes", "[8]", "--checkpoint.every", "2"),
    *("--evaluation.every", "320", "--evaluation.episodes", "2", "--plots.enabled", "false"),
]


@pytest.fixture(scope="module")
def crashes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crashes]:
    crashes = Crashes(tmp_path_factory.mktemp("crashes"))
    yield crashes
    crashes.close()


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as table:
        return [{key: value for key, value in row.items() if key not in CLOCK} for row in csv.DictReader(table)]


def left(run: Path) -> dict[str, Any]:
    """All that a run leaves, without times."""
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    content["varshare"].pop("wall_time_s")
    files = sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())
    return {
        "files": files,
        "weights": {name: value.tolist() for name, value in content["state_dict"].items()},
        "optimizer": str(content["optimizer_states"]),
        "progress": str(content["varshare"]),
        "heartbeat": rows(run / "heartbeat.csv"),
        "diagnostics": (run / "diagnostics.csv").read_text(),
        "final": (run / "summary.json").read_text().partition('"final"')[2],
    }


def go_on(crashes: Crashes, run: Path, fit: list[str]) -> None:
    """What a user does after a crash: resume, or start it if it had not begun."""
    if not (run / "config.yaml").exists():
        crashes.run(*fit)
    elif not (run / "summary.json").exists():  # else it was done
        crashes.run("resume", str(run))


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power cut"])
def test_a_run_that_died_at_any_point_ends_as_one_that_did_not(crashes: Crashes, power: bool) -> None:
    def fit(name: str) -> tuple[list[str], Path]:
        logs = crashes.folder / name
        return [*FIT, "--logs_dir", str(logs)], logs / "x" / "seed_1"

    args, run = fit(f"whole_{power}")
    points = crashes.run(*args)
    expected = left(run)
    assert points > 60
    for point in range(1, points + 1, EVERY):
        args, run = fit(f"at_{point}_{power}")
        crashes.run(*args, kill_at=point)
        if power:
            crashes.cut_power()
        go_on(crashes, run, args)
        found = left(run)
        for name, value in expected.items():
            assert found[name] == value, f"{name}, died at operation {point} of {points}"
