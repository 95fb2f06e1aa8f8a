"""A study of short runs, started as a user would, and what its runs left."""

import csv
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
import yaml

from varshare_pl.cli.main import main

CLOCK = {"wall_time_s", "sps"}
SMALL = {
    "name": "small",
    "suites": {"complex": "complex_cartpole", "mirrored": "mirrored_cartpole"},
    "methods": {"varshare": "methods/varshare", "shared": "methods/shared"},
    "seeds": "1-2",
    "workers": 2,
    "overrides": {
        "data.num_envs": 10,
        "data.rollout_steps": 16,
        "data.total_env_steps": 960,
        "model.minibatch_size": 80,
        "model.hidden_sizes": [8],
        "evaluation.every": 320,
        "evaluation.episodes": 2,
        "checkpoint.every": 2,
        "plots.enabled": False,
    },
}


def wait_for(condition: Callable[[], Any], process: "subprocess.Popen[str]", seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def write(folder: Path, **changes: Any) -> Path:
    """Write the study with changes, those of ``overrides`` merged; gives its file."""
    overrides = {**SMALL["overrides"], **changes.pop("overrides", {})}
    file = folder / "file.yaml"
    file.write_text(yaml.safe_dump({**SMALL, **changes, "overrides": overrides}, sort_keys=False))
    return file


@contextmanager
def started(folder: Path, *args: str, **options: Any) -> Iterator["subprocess.Popen[str]"]:
    """``varshare study file.yaml`` in a folder; it is killed at the end of the block if it is still there."""
    command = [sys.executable, "-m", "varshare_pl", "study", "file.yaml", *args]
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}  # of pytest's own
    env["PYTHONPATH"] = os.pathsep.join([env.get("PYTHONPATH", ""), str(Path(__file__).parent)])
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **{"cwd": folder, "env": env, **pipes, **options}) as process:
        try:
            yield process
        finally:
            process.kill()


def study(folder: Path, *args: str) -> tuple[int, str, str]:
    """The same within this process, whose fork server has to import everything only once; exit code, output, errors."""
    out, err = io.StringIO(), io.StringIO()
    with chdir(folder), redirect_stdout(out), redirect_stderr(err):
        code = main(["study", "file.yaml", *args])
    return code, out.getvalue(), err.getvalue()


def runs(study_folder: Path) -> dict[str, Path]:
    """Run folders by their place in the study."""
    found = sorted(path.parent for path in study_folder.rglob("run.json"))
    return {path.relative_to(study_folder).as_posix(): path for path in found}


def left(run: Path) -> dict[str, Any]:
    """All that a run leaves, without times."""
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    content["varshare"].pop("wall_time_s")
    with (run / "heartbeat.csv").open() as table:
        rows = [{k: v for k, v in row.items() if k not in CLOCK} for row in csv.DictReader(table)]
    return {
        "weights": {name: value.tolist() for name, value in content["state_dict"].items()},
        "heartbeat": rows,
        "diagnostics": (run / "diagnostics.csv").read_text(),
        "final": (run / "summary.json").read_text().partition('"final"')[2],
    }


def all_left(study_folder: Path) -> dict[str, dict[str, Any]]:
    return {name: left(path) for name, path in runs(study_folder).items()}
